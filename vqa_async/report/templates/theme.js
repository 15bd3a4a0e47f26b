// Before anything is drawn: the colours that were chosen the last time, if this browser keeps them.
try {
  const kept = localStorage.getItem("vqa-report:theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
} catch { /* a page from a file may have no storage */ }
