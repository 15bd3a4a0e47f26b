// The whole: filters lead to the list, the list to the record, keys to all of them.
function refresh(keepPlace = false, then = () => {}) {
  match((found) => {
    show(found, keepPlace);
    then();
  });
}

function show(found, keepPlace) {
  const before = shown[current];
  const at = current;
  shown = found;
  const same = before ? shown.indexOf(before) : -1;
  current = same >= 0 ? same : keepPlace ? Math.min(at, Math.max(0, shown.length - 1)) : 0;
  pairAt = same >= 0 ? pairAt : -1;
  if (!keepPlace) list.scrollTop = 0;
  const whole = records.length.toLocaleString("en");
  $("count").textContent = shown.length === records.length ? many(records.length, "record") : `${shown.length.toLocaleString("en")} of ${whole} records`;
  $("clear").hidden = !isFiltered();
  drawList(true);
  bringIntoSight(current);
  drawList();
  if (shown.length) drawDetail();
  else drawNothing();
  tally();
}

function goTo(at) {
  if (!shown.length) return;
  current = Math.min(Math.max(0, at), shown.length - 1);
  pairAt = -1;
  bringIntoSight(current);
  drawList();
  drawDetail();
  detail.scrollTop = 0;
}

function choosePair(step) {
  const record = shown[current];
  if (!record || !record.pairs.length) return;
  pairAt = Math.min(Math.max(pairAt + step, -1), record.pairs.length - 1);
  drawDetail();
}

function judged(record) {
  if ($("tools").elements.decided.value) refresh(true);
  else {
    redraw(record);
    drawDetail();
  }
  tally();
}

function judgeRecord(record, decision) {
  decide(record.id, undefined, decision);
  judged(record);
}

function judgePair(record, at, decision) {
  decide(...pairKey(record, record.pairs[at]), decision);
  pairAt = at;
  judged(record);
}

// By key: what is chosen is judged, and the next comes up.
function judge(decision) {
  const record = shown[current];
  if (!record) return;
  if (record.error) {
    toast("A failed record has no answer to judge.");
    return;
  }
  if (pairAt >= 0) {
    const at = pairAt;
    judgePair(record, at, decision);
    if (shown[current] === record) choosePair(1);
    return;
  }
  const was = current;
  judgeRecord(record, decision);
  if (shown[current] === record) goTo(was + 1);
}

function takeBack() {
  const key = undo();
  if (key === null) return;
  const id = key.split("\u0000")[0];
  const record = records.find((r) => keyOf(r.id) === key || r.pairs.some((pair) => keyOf(...pairKey(r, pair)) === key))
    || records.find((r) => r.id === id);
  refresh(true, () => {
    const at = record ? shown.indexOf(record) : -1;
    if (at >= 0) goTo(at);
  });
  toast("The last decision is taken back.");
}

function toggleGrid() {
  inGrid = !inGrid;
  list.classList.toggle("grid-view", inGrid);
  drawList(true);
  bringIntoSight(current);
  drawList();
}

const perPage = () => Math.max(1, Math.floor(list.clientHeight / shape().height)) * shape().across;

const KEYS = {
  j: () => goTo(current + 1),
  k: () => goTo(current - 1),
  n: () => choosePair(1),
  p: () => choosePair(-1),
  a: () => judge("accept"),
  x: () => judge("reject"),
  u: takeBack,
  g: toggleGrid,
  "/": () => { $("search").focus(); $("search").select(); },
  "?": () => $("help").showModal(),
};
const LIST_KEYS = {
  ArrowDown: () => goTo(current + shape().across),
  ArrowUp: () => goTo(current - shape().across),
  ArrowRight: () => goTo(current + 1),
  ArrowLeft: () => goTo(current - 1),
  PageDown: () => goTo(current + perPage()),
  PageUp: () => goTo(current - perPage()),
  Home: () => goTo(0),
  End: () => goTo(shown.length - 1),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const target = event.target;
  if (event.key === "Escape" && target === $("search")) {
    if ($("search").value) {
      $("search").value = "";
      $("search").dispatchEvent(new Event("input"));
    }
    list.focus();
    return;
  }
  if (event.key === "Enter" && target === $("search")) {
    list.focus();
    return;
  }
  if (target.closest?.("input, select, textarea")) return;
  const act = KEYS[event.key] || (target === list || target === document.body ? listKey(event, target) : undefined);
  if (!act) return;
  event.preventDefault();
  if ("jkaxnp".includes(event.key)) comeToRecords();
  act();
}

// The page itself scrolls by these keys, unless the list has the focus.
const listKey = (event, target) => (target === list ? LIST_KEYS[event.key] : undefined);

function comeToRecords() {
  const box = $("records").getBoundingClientRect();
  if (box.top > window.innerHeight * 0.5 || box.bottom < window.innerHeight * 0.4) $("records").scrollIntoView();
}

function setUp() {
  let isDrawing = false;
  list.addEventListener("scroll", () => {
    if (isDrawing) return;
    isDrawing = true;
    requestAnimationFrame(() => {
      isDrawing = false;
      drawList();
    });
  }, { passive: true });
  new ResizeObserver(() => drawList(inGrid)).observe(list);
  document.addEventListener("keydown", onKey);
  $("keys").addEventListener("click", () => $("help").showModal());
  $("clear").addEventListener("click", () => { clearFilters(); $("search").focus(); });
  $("undo").addEventListener("click", takeBack);
  $("export").addEventListener("click", exportDecisions);
}

setUpTheme();
readKept();
readRecords(() => {
  setUpFilters(() => refresh());
  setUp();
  refresh();
  document.documentElement.dataset.ready = "yes";
});
