"use strict";

/* The table of stores: searched, sorted, and of its rows only those that are seen are elements. */

const ROW = 34; // pixels, as in table.css
const AROUND = 12; // rows beyond what is seen
const PRINTED = 40; // rows on paper

class StoreTable {
  constructor(view) {
    this.query = "";
    this.flag = "";
    this.everywhere = false;
    this.sort = { title: "mean", down: true };
    this.at = 0;
    this.build(view);
  }

  /* The elements that stay; `show` fills them. */
  build({ units }) {
    const lower = (level, unit) => (units.nameAt(level, unit) ?? "").toLowerCase();
    const levels = d3.range(units.levels.length);
    this.own = d3.range(units.count).map((unit) => lower(levels.length - 1, unit));
    // In all chains together the name of a chain may be asked for too.
    this.whole = this.own.map((_, unit) => levels.map((level) => lower(level, unit)).join("\n"));
    this.body = element("div", { class: "rows", role: "presentation" });
    this.head = element("div", { class: "row head", role: "row" });
    this.space = element("div", { class: "space", role: "presentation" }, this.body);
    this.grid = element(
      "div",
      {
        class: "grid",
        role: "grid",
        tabindex: "0",
        "aria-label": "Stores. Arrow keys move, Enter tells a store's story.",
        onscroll: () => this.render(),
        onkeydown: (event) => this.key(event),
        onclick: (event) => this.click(event),
      },
      element("div", { role: "rowgroup" }, this.head),
      this.space,
    );
    this.said = element("p", { class: "said", role: "status" });
    this.controls = element("div", { class: "controls" });
    document
      .getElementById("stores")
      .append(
        element("h2", { id: "stores-title" }, "Every store"),
        this.controls,
        this.said,
        this.grid,
        element(
          "p",
          { class: "quiet on-paper" },
          `The first ${PRINTED} rows; the page itself has them all.`,
        ),
      );
    this.fillControls();
  }

  fillControls() {
    const search = element("input", {
      type: "search",
      id: "search",
      placeholder: "part of an id",
      spellcheck: "false",
      autocomplete: "off",
      oninput: () => this.change(() => (this.query = search.value.toLowerCase())),
    });
    const everywhere = element("input", {
      type: "checkbox",
      id: "everywhere",
      onchange: () => this.change(() => (this.everywhere = everywhere.checked)),
    });
    const flag = element(
      "select",
      { id: "flag", onchange: () => this.change(() => (this.flag = flag.value)) },
      element("option", { value: "" }, "any"),
      report.facts.flags.map((name) =>
        element("option", { value: name }, name.replaceAll("_", " ")),
      ),
    );
    this.controls.append(
      element("label", { for: "search" }, "Search ", search),
      element("label", { for: "flag" }, "Flag ", flag),
      element("label", { for: "everywhere" }, everywhere, " all chains"),
    );
  }

  /* Another metric or chain. */
  show(view) {
    this.change(() => (this.view = view));
  }

  change(what) {
    what();
    this.columns = columnsOf({ ...this.view, everywhere: this.everywhere });
    if (!this.columns.some((one) => one.title === this.sort.title))
      this.sort = { title: "mean", down: true };
    this.arrange();
    this.at = 0;
    this.grid.scrollTop = 0;
    this.showHead();
    this.render();
  }

  /* Which rows, in which order. */
  arrange() {
    const { sheet, pool, units } = this.view;
    const all = this.everywhere ? d3.range(sheet.unit.length) : report.rowsOf(sheet, pool);
    const bit = report.facts.flags.indexOf(this.flag);
    const names = this.everywhere ? this.whole : this.own;
    const kept = all.filter(
      (row) =>
        (bit < 0 || (sheet.flags[row] >> bit) & 1) &&
        (!this.query || names[sheet.unit[row]].includes(this.query)),
    );
    const column = this.columns.find((one) => one.title === this.sort.title);
    const key =
      column.kind === "text"
        ? (row) => units.levels[column.level].code[sheet.unit[row]]
        : (row) => sheet[column.name][row];
    this.rows = ordered(kept, key, this.sort.down);
    const [low, high] = d3.extent(
      [...kept.map((row) => sheet.low?.[row]), ...kept.map((row) => sheet.high?.[row])].filter(
        Number.isFinite,
      ),
    );
    this.scale = low < high ? d3.scaleLinear([low, high], [2, 98]).clamp(true) : () => 50;
    const of = report.count(all.length);
    this.said.textContent = `${report.count(kept.length)} of ${report.plural(all.length, "store").replace(String(all.length), of)}`;
    this.grid.setAttribute("aria-rowcount", kept.length + 1);
    this.grid.setAttribute("aria-colcount", this.columns.length);
    this.space.style.height = `${kept.length * ROW}px`;
  }

  showHead() {
    const cells = this.columns.map((column, k) => {
      const sorted = column.title === this.sort.title && column.kind !== "interval";
      const button = element(
        "button",
        { type: "button", title: column.hint, onclick: () => this.sortBy(column) },
        report.visible(column.title),
        element(
          "span",
          { "aria-hidden": "true", class: "arrow" },
          sorted ? (this.sort.down ? " ↓" : " ↑") : "",
        ),
      );
      const order = sorted ? (this.sort.down ? "descending" : "ascending") : "none";
      return element(
        "div",
        {
          role: "columnheader",
          class: `cell ${classOf(column)}`,
          "aria-sort": order,
          "aria-colindex": k + 1,
        },
        button,
      );
    });
    this.head.setAttribute("aria-rowindex", 1);
    this.head.replaceChildren(...cells);
  }

  sortBy(column) {
    const same = this.sort.title === column.title;
    const title = column.title;
    this.change(
      () => (this.sort = { title, down: same ? !this.sort.down : column.kind !== "text" }),
    );
    const at = this.columns.findIndex((one) => one.title === title);
    this.head.children[at]?.querySelector("button").focus({ preventScroll: true });
  }

  render() {
    const first = Math.max(0, Math.floor(this.grid.scrollTop / ROW) - AROUND);
    const seen = Math.ceil(this.grid.clientHeight / ROW) + 2 * AROUND;
    const last = Math.min(this.rows.length, first + Math.max(seen, PRINTED));
    this.body.style.transform = `translateY(${first * ROW}px)`;
    this.body.replaceChildren(...d3.range(first, last).map((place) => this.rowOf(place)));
    const active = this.rows.length ? `row-${this.at}` : null;
    if (active) this.grid.setAttribute("aria-activedescendant", active);
    else this.grid.removeAttribute("aria-activedescendant");
  }

  rowOf(place) {
    const row = this.rows[place];
    return element(
      "div",
      {
        role: "row",
        class: place === this.at ? "row active" : "row",
        id: `row-${place}`,
        "aria-rowindex": place + 2,
        "data-place": place,
      },
      this.columns.map((column) =>
        element(
          "div",
          { role: "gridcell", class: `cell ${classOf(column)}` },
          this.cell(column, row),
        ),
      ),
    );
  }

  cell(column, row) {
    const { sheet, units } = this.view;
    if (column.kind === "interval") return this.bar(row);
    if (column.kind === "number") return column.show(sheet[column.name][row]);
    const name = report.name(units.nameAt(column.level, sheet.unit[row]));
    if (column.level < units.levels.length - 1) return name;
    const marks = report
      .flagsOf(sheet, row)
      .map((flag) => element("span", { class: "mark" }, flag.replaceAll("_", " ")));
    return [name, ...marks];
  }

  bar(row) {
    const { sheet } = this.view;
    const place = (name) =>
      Number.isFinite(sheet[name]?.[row]) ? this.scale(sheet[name][row]) : null;
    const [low, high, mean, raw] = ["low", "high", "mean", "raw"].map(place);
    const made = element("span", { class: "bar", "aria-hidden": "true" });
    const put = (kind, left, width) => {
      if (left === null || width === null) return;
      const part = element("span", { class: kind });
      part.style.left = `${left}%`;
      if (width !== undefined) part.style.width = `${width}%`;
      made.append(part);
    };
    put("whole", low, low === null ? null : high - low);
    put("raw", raw);
    put("mean", mean);
    return made;
  }

  key(event) {
    if (event.target !== this.grid) return;
    const page = Math.max(1, Math.floor(this.grid.clientHeight / ROW) - 2);
    const moves = {
      ArrowDown: 1,
      ArrowUp: -1,
      PageDown: page,
      PageUp: -page,
      Home: -Infinity,
      End: Infinity,
    };
    if (event.key in moves) {
      event.preventDefault();
      this.goTo(this.at + moves[event.key]);
    } else if (event.key === "Enter" && this.rows.length) {
      event.preventDefault();
      this.tell(this.at);
    }
  }

  goTo(place) {
    this.at = Math.max(0, Math.min(this.rows.length - 1, place));
    const [top, below] = [this.at * ROW, (this.at + 2) * ROW - this.grid.clientHeight];
    if (this.grid.scrollTop > top) this.grid.scrollTop = top;
    else if (this.grid.scrollTop < below) this.grid.scrollTop = below;
    this.render();
  }

  click(event) {
    const row = event.target.closest("[data-place]");
    if (row) this.tell(Number(row.dataset.place));
  }

  tell(place) {
    this.at = place;
    this.render();
    report.tellStore(this.view.sheet.unit[this.rows[place]], this.view);
  }
}

report.StoreTable = StoreTable;
