// The list of records, of which only those in sight are elements: so its length costs nothing.
const ROW = 84, SPARE = 6;
const list = $("list"), rows = $("rows");
let shown = [], current = 0, inGrid = false;
const drawn = new Map();

function shape() {
  if (!inGrid) return { across: 1, height: ROW, width: 0 };
  const across = Math.max(2, Math.floor(list.clientWidth / 150));
  const width = list.clientWidth / across;
  return { across, width, height: Math.round(width * 0.78) };
}

function drawList(anew = false) {
  const { across, height, width } = shape();
  if (anew) {
    rows.replaceChildren();
    drawn.clear();
  }
  rows.style.height = `${Math.ceil(shown.length / across) * height}px`;
  const first = Math.max(0, Math.floor(list.scrollTop / height) - SPARE) * across;
  const last = Math.min(shown.length, (Math.ceil((list.scrollTop + list.clientHeight) / height) + SPARE) * across);
  for (const [at, element] of drawn) {
    if (at < first || at >= last) {
      element.remove();
      drawn.delete(at);
    }
  }
  for (let at = first; at < last; at += 1) {
    if (drawn.has(at)) continue;
    const element = rowOf(shown[at], at);
    element.style.transform = `translate(${(at % across) * width}px, ${Math.floor(at / across) * height}px)`;
    if (inGrid) {
      element.style.width = `${width}px`;
      element.style.height = `${height}px`;
    }
    drawn.set(at, element);
    rows.append(element);
  }
  markCurrent();
}

function titleOf(record) {
  if (record.error) return [record.error.message, record.asked?.at(-1)?.[1] || record.id];
  if (record.pairs.length) return [record.pairs[0][0], record.pairs[0][1]];
  return [record.text || record.id, record.asked?.at(-1)?.[1] || ""];
}

// What people call a record by: its image, where it has one.
function nameOf(record) {
  const image = record.images[0];
  return image && !image.name.startsWith("(") ? image.name.split(/[/\\]/).pop() || image.name : record.id;
}

function chipsOf(record) {
  const chips = make("span", "chips");
  if (record.error) chips.append(make("span", "chip bad", visible(record.error.code)));
  chips.append(make("bdi", "name", visible(nameOf(record))));
  if (!record.error) chips.append(make("span", "", many(record.pairs.length, "pair")));
  for (const [sign, decision] of [["✓", "accept"], ["✗", "reject"]]) {
    const n = record.pairs.filter((pair) => decisionOnPair(record, pair) === decision).length;
    if (n) chips.append(make("span", `of-pairs ${decision}`, `${sign} ${many(n, "pair")}`));
  }
  for (const flag of [...record.flags].slice(0, 3)) chips.append(make("span", "chip warn", visible(flag)));
  if (record.style) chips.append(make("span", "", visible(record.style)));
  return chips;
}

function rowOf(record, at) {
  const [first, second] = titleOf(record).map((text) => visible(text.slice(0, 160).replace(/\s+/g, " ")));
  const element = make("div", `row ${decisionOn(record)}`, thumb(record.images[0], ""),
    make("span", "words", make("span", "first", first), make("span", "second", second), chipsOf(record)));
  element.id = `row-${at}`;
  element.setAttribute("role", "option");
  element.setAttribute("aria-setsize", shown.length);
  element.setAttribute("aria-posinset", at + 1);
  const decision = { accept: ", accepted", reject: ", rejected" }[decisionOn(record)] || "";
  element.setAttribute("aria-label", `${record.error ? "failed: " : ""}${first}${decision}`);
  element.addEventListener("click", () => goTo(at));
  return element;
}

function redraw(record) {
  const at = shown.indexOf(record);
  drawn.get(at)?.remove();
  drawn.delete(at);
  drawList();
}

function markCurrent() {
  for (const [at, element] of drawn) element.setAttribute("aria-selected", String(at === current));
  if (drawn.has(current)) list.setAttribute("aria-activedescendant", `row-${current}`);
  else list.removeAttribute("aria-activedescendant");
}

function bringIntoSight(at) {
  const { across, height } = shape();
  const top = Math.floor(at / across) * height;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + height > list.scrollTop + list.clientHeight) list.scrollTop = top + height - list.clientHeight;
}
