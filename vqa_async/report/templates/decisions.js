// What was decided, about records and about pairs; kept in this browser where it allows that.
const KEPT = `vqa-report:${about.run}`;
const decisions = new Map();
const undone = [];
let toldUnkept = false;

const keyOf = (id, pair) => (pair === undefined ? id : `${id}\u0000${pair}`);

// A pair is known by the record whose answer it is from, and its number there.
const pairKey = (record, pair) => [pair[5] === undefined ? record.id : pair[5], pair[4]];

const decisionOn = (record) => decisions.get(keyOf(record.id))?.decision || "";
const decisionOnPair = (record, pair) => decisions.get(keyOf(...pairKey(record, pair)))?.decision || "";

function isDecided(record) {
  return Boolean(decisionOn(record)) || record.pairs.some((pair) => decisionOnPair(record, pair));
}

function decide(id, pair, decision) {
  const key = keyOf(id, pair);
  const before = decisions.get(key);
  undone.push([key, before]);
  if (before && before.decision === decision) decisions.delete(key);
  else decisions.set(key, pair === undefined ? { id, decision } : { id, pair, decision });
  keep();
  return decisions.has(key);
}

// The key of the decision that was taken back, or null.
function undo() {
  const last = undone.pop();
  if (!last) return null;
  const [key, before] = last;
  if (before) decisions.set(key, before);
  else decisions.delete(key);
  keep();
  return key;
}

// At once: what is put off until the page is left may be lost with it.
function keep() {
  if (storage.set(KEPT, JSON.stringify([...decisions.values()])) || toldUnkept) return;
  toldUnkept = true;
  toast("This browser does not keep decisions: export them before you leave the page.");
}

function readKept() {
  let kept;
  try { kept = JSON.parse(storage.get(KEPT) || "[]"); } catch { kept = []; }
  for (const one of Array.isArray(kept) ? kept : []) {
    if (typeof one?.id === "string" && ["accept", "reject"].includes(one.decision)) decisions.set(keyOf(one.id, one.pair), one);
  }
}

// What some readers of lines take for the end of one.
const escaped = (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0");

// One decision a line, in the order of the records; JSON.stringify keeps even halves of surrogate pairs.
function decisionLines() {
  const left = new Map(decisions), lines = [];
  const take = (key) => {
    if (left.has(key)) lines.push(JSON.stringify(left.get(key)).replace(/[\u0085\u2028\u2029]/g, escaped));
    left.delete(key);
  };
  for (const record of records) {
    take(keyOf(record.id));
    for (const pair of record.pairs) take(keyOf(...pairKey(record, pair)));
  }
  for (const key of [...left.keys()]) take(key);
  return lines.map((line) => `${line}\n`).join("");
}

function exportDecisions() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([decisionLines()], { type: "application/jsonl" }));
  link.download = "decisions.jsonl";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  toast(`${many(decisions.size, "decision")} in decisions.jsonl. Apply: vqa-async export ${visible(about.output)} -o FILE --decisions decisions.jsonl`);
}

function tally() {
  const n = { accept: 0, reject: 0 };
  for (const one of decisions.values()) n[one.decision] += 1;
  const [accepted, rejected] = [n.accept.toLocaleString("en"), n.reject.toLocaleString("en")];
  $("tally").textContent = decisions.size ? `✓ ${accepted}  ✗ ${rejected}` : "";
  $("tally").title = decisions.size ? `${accepted} accepted, ${rejected} rejected` : "";
  $("tally").setAttribute("aria-label", $("tally").title);
  $("export").disabled = !decisions.size;
  $("undo").disabled = !undone.length;
}
