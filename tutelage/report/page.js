"use strict";
// The error browser: unpacks the test items and shows those that the filters leave. Whatever stands in them
// becomes text, never markup.
(async () => {
  const box = document.getElementById("browser");
  if (!box || typeof DecompressionStream === "undefined") return;
  const packed = Uint8Array.from(atob(box.querySelector("data").value), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const items = JSON.parse(await new Response(stream).text());
  const PAGE = 25, MOST_PARTS = 500, SHORT = 60;
  const form = box.querySelector("form"), list = box.querySelector(".items");
  const status = box.querySelector("[role=status]"), more = box.querySelector("button");
  let found = [], shown = 0;

  const make = (tag, css, text) => {
    const element = document.createElement(tag);
    if (css) element.className = css;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const score = (value) => (value === undefined ? "no answer" : `${(100 * value).toFixed(value % 1 ? 1 : 0)} %`);
  const parts = (text, fine) => (fine ? [...text] : text.match(/\s+|[\p{L}\p{N}_]+|[^\s]/gu) || []);

  // Which parts of `own` are not in a longest common subsequence with `other`.
  const differing = (own, other) => {
    const rows = own.length, columns = other.length;
    if (rows > MOST_PARTS || columns > MOST_PARTS) {
      let i = 0;
      while (i < rows && i < columns && own[i] === other[i]) i++;
      return own.map((_, at) => at >= i);
    }
    const width = columns + 1, best = new Uint16Array((rows + 1) * width);
    for (let i = rows - 1; i >= 0; i--)
      for (let j = columns - 1; j >= 0; j--)
        best[i * width + j] = own[i] === other[j]
          ? best[(i + 1) * width + j + 1] + 1
          : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
    const marks = new Array(rows).fill(true);
    for (let i = 0, j = 0; i < rows && j < columns; ) {
      if (own[i] === other[j]) { marks[i++] = false; j++; }
      else if (best[(i + 1) * width + j] >= best[i * width + j + 1]) i++;
      else j++;
    }
    return marks;
  };
  const marked = (text, against) => {
    const pre = make("pre", "text");
    pre.tabIndex = 0;
    if (against === undefined || against === null || text === against) {
      pre.textContent = text;
      return pre;
    }
    const fine = text.length <= SHORT && against.length <= SHORT;
    const own = parts(text, fine), marks = differing(own, parts(against, fine));
    for (let i = 0; i < own.length; ) {
      let end = i;
      while (end < own.length && marks[end] === marks[i]) end++;
      const piece = own.slice(i, end).join("");
      pre.append(marks[i] ? make("mark", "", piece) : piece);
      i = end;
    }
    return pre;
  };
  const cell = (title, note, text, against) => {
    const part = make("div", "cell"), head = make("p", "quiet");
    head.append(make("b", "", title), note ? ` ${note}` : "");
    part.append(head, text === undefined || text === null ? make("p", "quiet", "–") : marked(text, against));
    return part;
  };
  const body = (item) => {
    const grid = make("div", "cells");
    const beside = form.elements.against.value === "teacher" || item.reference === null
      ? item.answers.teacher : item.reference;
    grid.append(cell("Prompt", "", item.prompt), cell("Reference", "", item.reference));
    for (const [role, title] of [["student", "Student"], ["teacher", item.teacher], ["baseline", "Before"]])
      grid.append(cell(title, score(item.scores[role]), item.answers[role], beside));
    return grid;
  };
  const entry = (item) => {
    const details = make("details", "item"), summary = make("summary");
    const css = { behind: "no", "both fail": "no", ahead: "yes", "both right": "yes" }[item.standing];
    summary.append(make("span", `badge ${css}`, item.standing), " ", make("b", "", item.task), " ",
      make("span", "line", item.prompt.replace(/\s+/g, " ").slice(0, 160)));
    details.append(summary);
    details.addEventListener("toggle", () => {
      if (details.open && !details.querySelector(".cells")) details.append(body(item));
    });
    return details;
  };
  const grow = () => {
    list.append(...found.slice(shown, shown + PAGE).map(entry));
    shown = Math.min(shown + PAGE, found.length);
    more.hidden = shown === found.length;
    status.textContent = `${found.length.toLocaleString("en")} of ${items.length.toLocaleString("en")} items`;
  };
  const filter = () => {
    const wanted = Object.fromEntries(new FormData(form)), text = wanted.text.toLowerCase();
    found = items.filter((item) =>
      (!wanted.task || item.task === wanted.task) &&
      (!wanted.teacher || item.teacher === wanted.teacher) &&
      (!wanted.standing || item.standing === wanted.standing) &&
      (!wanted.judged || item.judged === wanted.judged) &&
      (!wanted.group || String(item.group) === wanted.group) &&
      (!wanted.differs || (item.answers.student === item.answers.teacher) === (wanted.differs === "no")) &&
      (!text || [item.prompt, item.reference || "", ...Object.values(item.answers)]
        .some((each) => each.toLowerCase().includes(text))));
    list.replaceChildren();
    shown = 0;
    grow();
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => {
    const first = shown;
    grow();
    list.children[first].querySelector("summary").focus();
  });
  form.hidden = false;
  filter();
})();
