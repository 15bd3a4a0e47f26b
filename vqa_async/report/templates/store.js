// The records and small images that stand in the page. Records are read once, in slices; images when they
// are first looked at.
const about = JSON.parse($("about").textContent);
const records = [];
const facets = { flag: new Map(), style: new Map(), model: new Map(), failure: new Map() };

function count(facet, name) {
  if (name) facets[facet].set(name, (facets[facet].get(name) || 0) + 1);
}

function takeIn(record) {
  record.pairs ||= [];
  record.images ||= [];
  record.flags = new Set(record.pairs.flatMap((pair) => pair[2]));
  for (const flag of record.flags) count("flag", flag);
  count("style", record.style);
  count("model", record.model);
  if (record.error) count("failure", record.error.code);
  record.folded = folded(record);
  records.push(record);
}

// Reads for a few milliseconds at a time, so that the page answers meanwhile.
function readRecords(whenRead) {
  const blocks = [...document.querySelectorAll("script.record-data")];
  const slice = () => {
    const until = performance.now() + 24;
    while (blocks.length && performance.now() < until) {
      const block = blocks.shift();
      JSON.parse(block.textContent).forEach(takeIn);
      block.remove();
    }
    if (blocks.length) setTimeout(slice);
    else whenRead();
  };
  slice();
}

// All text of a record as search sees it. Made when it is read: then the first search is as quick as any.
function folded(record) {
  return [
    record.id, record.text, record.model, record.style, record.structured, record.error && record.error.code,
    record.error && record.error.message, ...record.pairs.flatMap((pair) => [pair[0], pair[1], ...pair[2]]),
    ...record.images.map((image) => image.name), ...(record.row || []).flat(), ...(record.asked || []).map((turn) => turn[1]),
  ].filter(Boolean).join("\n").toLowerCase();
}

const imageBlocks = [...document.querySelectorAll("script.image-data")];
const openBlocks = new Map();

function imageAddress(number) {
  if (about.images) return `${encodeURIComponent(about.images)}/${Math.floor(number / about.perFolder)}/${number}.jpg`;
  const at = Math.floor(number / about.perBlock);
  let lines = openBlocks.get(at);
  if (!lines) {
    lines = imageBlocks[at].textContent.split("\n");
    if (openBlocks.size > 30) openBlocks.delete(openBlocks.keys().next().value);
    openBlocks.set(at, lines);
  }
  return `data:image/jpeg;base64,${lines[number % about.perBlock]}`;
}

function thumb(image, alt) {
  const frame = make("span", "thumb");
  if (image && image.at !== undefined) {
    const shown = make("img");
    shown.alt = alt;
    shown.decoding = "async";
    [shown.width, shown.height] = image.size;
    shown.addEventListener("error", () => frame.replaceChildren("image not found"));
    shown.src = imageAddress(image.at);
    frame.append(shown);
  } else {
    frame.append(image ? "no image to show" : "text alone");
  }
  return frame;
}
