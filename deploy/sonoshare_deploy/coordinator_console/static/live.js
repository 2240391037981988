// Puts what the server tells (server-sent events) into the page's places. Words become text, never markup.
"use strict";
(() => {
  const place = document.querySelector("[data-live-from]");
  if (!place) return;
  const said = document.getElementById("live-said");
  const source = new EventSource(place.dataset.liveFrom);
  const each = (kind, change) => document.querySelectorAll(`[data-live-${kind}]`).forEach(change);
  const put = (element, words) => { if (element.textContent !== words) element.textContent = words; };
  const row = (cells) => {
    const made = document.createElement("tr");
    cells.forEach((words, number) => {
      const cell = document.createElement("td");
      cell.textContent = words;
      if (number === cells.length - 1) cell.className = "words";
      made.append(cell);
    });
    return made;
  };
  source.onopen = () => put(said, "This page follows what happens.");
  source.onerror = () => put(said, source.readyState === EventSource.CLOSED
    ? "This page follows no more." : "This page has lost the console, and tries again.");
  source.onmessage = (message) => {
    const now = JSON.parse(message.data);
    each("text", (one) => { const words = now.text[one.dataset.liveText]; if (words !== undefined) put(one, words); });
    each("value", (one) => { const n = now.value[one.dataset.liveValue]; if (n !== undefined) one.value = n; });
    each("rows", (one) => {
      const rows = now.rows[one.dataset.liveRows];
      if (rows) one.replaceChildren(...rows.map(row));
    });
  };
})();
