// The record that is looked at, in full.
const detail = $("detail");
let pairAt = -1;

function verdictButton(decision, label, isOn, act) {
  const button = make("button", decision, label);
  button.type = "button";
  button.setAttribute("aria-pressed", String(isOn));
  button.addEventListener("click", act);
  return button;
}

function headOf(record) {
  const head = make("header", "");
  const title = make("h2", "", make("bdi", "", ...marked(nameOf(record))), make("small", "",
    `${(current + 1).toLocaleString("en")} of ${shown.length.toLocaleString("en")}`));
  head.append(title);
  const id = nameOf(record) === record.id ? "" : make("bdi", "id", ...marked(record.id));
  if (record.error) {
    head.append(id);
    return head;
  }
  const decision = decisionOn(record);
  for (const [name, label, key] of [["accept", "✓ Accept", "a"], ["reject", "✗ Reject", "x"]]) {
    const button = verdictButton(name, `${label} `, decision === name, () => judgeRecord(record, name));
    button.append(make("kbd", "", key));
    button.setAttribute("aria-keyshortcuts", key);
    head.append(button);
  }
  head.append(id);
  return head;
}

function imageOf(image, at, record) {
  const figure = make("figure", "");
  if (image.at === undefined) {
    figure.append(make("span", "thumb", ...marked(image.problem || "no image in this page")));
  } else {
    const shownImage = make("img");
    shownImage.alt = `Image ${at + 1} of ${record.images.length}: ${visible(image.name)}`;
    [shownImage.width, shownImage.height] = image.size;
    shownImage.src = imageAddress(image.at);
    const button = make("button", "", shownImage);
    button.type = "button";
    button.title = "Larger";
    button.addEventListener("click", () => enlarge(shownImage));
    figure.append(button);
  }
  figure.append(make("figcaption", "", make("bdi", "", ...marked(image.name)), image.said ? ` · ${image.said}` : ""));
  return figure;
}

function enlarge(image) {
  const large = $("large").querySelector("img");
  large.src = image.src;
  large.alt = image.alt;
  $("large").showModal();
}

function pairOf(record, pair, at) {
  const decision = decisionOnPair(record, pair);
  const item = make("li", `pair ${decision}${at === pairAt ? " chosen" : ""}`,
    make("span", "question text", ...marked(pair[0] || "(no question)")),
    make("span", "answer text", ...marked(pair[1] || "(no answer)")));
  const choose = make("span", "choose");
  for (const [name, sign, word] of [["accept", "✓", "Accept"], ["reject", "✗", "Reject"]]) {
    const button = verdictButton(name, sign, decision === name, () => judgePair(record, at, name));
    button.setAttribute("aria-label", `${word} pair ${at + 1}`);
    choose.append(button);
  }
  const chips = make("span", "chips", ...pair[2].map((flag) => make("span", "chip warn", visible(flag))));
  if (typeof pair[3] === "number") chips.append(make("span", "chip", `agreement ${Math.round(pair[3] * 100)} %`));
  item.append(choose, chips);
  return item;
}

function answerOf(record) {
  if (record.error) {
    const again = record.error.retryable ? "The next run tries it again." : "It is tried again only with --retry-failed.";
    return make("div", "failure", make("b", "", `Failed: ${visible(record.error.code)}`),
      record.error.status ? ` (status ${record.error.status})` : "",
      make("p", "text", ...marked(record.error.message)), make("small", "", again));
  }
  if (!record.pairs.length) {
    return make("div", "", make("p", "text", ...marked(record.text || "(empty)")), make("h3", "", "No pairs were found in this answer."));
  }
  const pairs = make("ol", "pairs", ...record.pairs.map((pair, at) => pairOf(record, pair, at)));
  return record.more ? make("div", "", pairs, make("p", "empty", `${many(record.more, "more pair")} not shown`)) : pairs;
}

function took(seconds) {
  if (!seconds) return "";
  return seconds < 1 ? `${Number((seconds * 1000).toPrecision(3))} ms` : `${Number(seconds.toPrecision(3))} s`;
}

function factsOf(record) {
  const date = record.at ? new Date(record.at * 1000).toLocaleString() : "";
  const tokens = record.tokens?.some(Boolean) ? `${record.tokens[0].toLocaleString("en")} in, ${record.tokens[1].toLocaleString("en")} out` : "";
  return [
    ["Model", record.model], ["Endpoint", record.endpoint], ["Style", record.style],
    ["Latency", took(record.latency)], ["Tokens", tokens],
    ["Attempts", record.attempts > 1 ? String(record.attempts) : ""],
    ["Ended", record.finish && record.finish !== "stop" ? record.finish : ""],
    ["Answered", date], ["Unanswered", record.unanswered ? many(record.unanswered, "question") : ""],
    ["Structured", record.structured || ""], ["Row", record.index === undefined || record.index < 0 ? "" : `${record.index + 1} of the input`],
    ...(record.row || []),
  ].filter(([, text]) => text);
}

function listOf(title, entries) {
  if (!entries.length) return "";
  const facts = make("dl", "about");
  for (const [name, text] of entries) facts.append(make("dt", "", visible(name)), make("dd", "", ...marked(text)));
  return make("section", "", make("h3", "", title), facts);
}

function drawDetail() {
  const record = shown[current];
  if (!record) return;
  const focused = [...detail.querySelectorAll("button")].indexOf(document.activeElement);
  const body = make("div", "body");
  if (record.images.length) {
    body.classList.add("with-images");
    body.append(make("div", "images", ...record.images.map((image, at) => imageOf(image, at, record))));
  }
  body.append(make("div", "", answerOf(record)));
  detail.replaceChildren(headOf(record), body, listOf("Asked", record.asked || []), listOf("About", factsOf(record)));
  detail.querySelector(".pair.chosen")?.scrollIntoView({ block: "nearest" });
  // The button that was pressed is another element now.
  if (focused >= 0) (detail.querySelectorAll("button")[focused] || detail).focus({ preventScroll: true });
}

function drawNothing() {
  const nothing = make("p", "empty", records.length ? "Nothing matches." : "There is no record in this output yet.");
  if (isFiltered()) {
    const button = make("button", "main", "Clear filters");
    button.type = "button";
    button.addEventListener("click", clearFilters);
    nothing.append(button);
  }
  detail.replaceChildren(nothing);
}
