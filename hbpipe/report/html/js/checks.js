"use strict";

/* What checks found: the night in short, checks of the model, audits, and what was rejected. */

const element = report.element;

report.showNight = () => {
  const { release, verdict, fits, audits, stores } = report.facts;
  const taken = release.rows ? release.accepted / release.rows : NaN;
  const found = fits.filter((fit) => fit.status === "ok").length;
  const passed = audits.filter((check) => check.status === "pass").length;
  const rows = d3.sum(stores.sheets, (sheet) => sheet.unit.count) + stores.left_out;
  document
    .getElementById("night")
    .append(
      element(
        "p",
        { class: "above" },
        element("span", {}, report.visible(`${release.pipeline} · ${release.environment}`)),
        element("time", { datetime: release.as_of }, `As of ${report.day(release.as_of)}`),
      ),
      element("h1", {}, `Release ${release.release}`),
      verdictOf(verdict),
      element(
        "dl",
        { class: "tiles" },
        tile(
          "stores",
          report.count(release.units ?? stores.units.count),
          `${report.count(rows)} posteriors`,
        ),
        tile(
          "rows taken",
          report.share(taken, 4),
          `${report.count(release.accepted)} of ${report.plural(release.days, "day")}`,
        ),
        tile(
          "priors found",
          `${report.count(found)} of ${report.count(fits.length)}`,
          report.plural(report.facts.metrics.length, "metric"),
        ),
        tile(
          "audits passed",
          `${report.count(passed)} of ${report.count(audits.length)}`,
          "before anything was shown",
        ),
      ),
    );
};

function tile(name, value, note) {
  const below = element("span", {}, note);
  return element("div", {}, element("dt", {}, name), element("dd", {}, value, below));
}

const SHOWN_REASONS = 6;

function verdictOf({ level, sentence, reasons }) {
  const sign = { good: "✓", look: "!", bad: "✗" }[level];
  const told = reasons
    .slice(0, SHOWN_REASONS)
    .map((reason) =>
      element(
        "li",
        { class: reason.level },
        element("a", { href: `#${reason.section}` }, report.visible(reason.text)),
      ),
    );
  const more = reasons.length - told.length;
  if (more > 0) told.push(element("li", {}, `and ${more} more, in the sections below`));
  return element(
    "div",
    { class: `verdict ${level}` },
    element("span", { class: "sign", "aria-hidden": "true" }, sign),
    element("div", {}, element("p", {}, sentence), told.length ? element("ul", {}, told) : null),
  );
}

/* --- tables of checks ------------------------------------------------------------------------ */

function checkTable(caption, heads, rows) {
  return element(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    element(
      "table",
      { class: "checks" },
      element("caption", { class: "unseen" }, caption),
      element(
        "thead",
        {},
        element(
          "tr",
          {},
          heads.map((head) => element("th", { scope: "col" }, head)),
        ),
      ),
      element(
        "tbody",
        {},
        rows.map((cells) =>
          element(
            "tr",
            {},
            cells.map((cell, k) => element("td", { "data-head": heads[k] }, cell)),
          ),
        ),
      ),
    ),
  );
}

const told = (text) => element("bdi", { class: "told" }, report.visible(String(text ?? "")));

function audited(rows) {
  return rows.map((check) => [
    report.status(check.status),
    told(check.name),
    told(check.subject),
    report.number(check.value, 4),
    report.number(check.threshold, 4),
    told(check.message),
  ]);
}

const AUDIT_HEADS = ["", "check", "of", "value", "limit", "what it says"];
const GATES = {
  data: "Before the statistics of a day were kept",
  release: "Before the release was published",
  full_bayes: "Against full Bayes",
};

report.showAudits = () => {
  const gates = d3.groups(report.facts.audits, (check) => check.gate);
  const parts = gates.map(([gate, checks]) => {
    const passed = checks.filter((check) => check.status === "pass");
    const others = checks.filter((check) => check.status !== "pass");
    const own = !["data", "release"].includes(gate);
    return [
      element("h3", {}, GATES[gate] ?? `Audit: ${report.visible(gate)}`),
      others.length ? checkTable("Checks that did not pass", AUDIT_HEADS, audited(others)) : null,
      passed.length
        ? element(
            "details",
            { open: own },
            element("summary", {}, `${report.plural(passed.length, "check")} passed`),
            checkTable("Checks that passed", AUDIT_HEADS, audited(passed)),
          )
        : null,
    ];
  });
  document
    .getElementById("audits")
    .append(
      element("h2", { id: "audits-title" }, "Audits"),
      element(
        "p",
        { class: "lead" },
        "Two gates stand before every release; a check that fails leaves readers on the release before.",
      ),
      ...(parts.length ? parts.flat() : [element("p", {}, "No checks are recorded.")]).filter(
        Boolean,
      ),
    );
};

/* --- the model ------------------------------------------------------------------------------- */

const MOST_CHAINS = 12;

report.showModel = (metric, pool, width, choose) => {
  const { diagnostics, pools } = report.facts;
  const section = document.getElementById("model");
  const of = diagnostics.filter((check) => check.metric === metric.name);
  // And those of the metric as a whole, which are of no chain.
  const own = of.filter((check) => check.pool === pools[pool] || !pools.includes(check.pool));
  section.replaceChildren(
    element("h2", { id: "model-title" }, "Does the model fit?"),
    ...(diagnostics.length
      ? [elsewhere(of, choose), ...modelPlots(own, width), modelTable(own)]
      : [element("p", { class: "lead" }, "This release has no checks of the model.")]
    ).filter(Boolean),
  );
};

function elsewhere(checks, choose) {
  const odd = checks.filter((check) => check.status === "warn" || check.status === "fail");
  if (!odd.length) return element("p", { class: "lead" }, "No check of this metric warns.");
  const names = [...new Set(odd.map((check) => check.pool))].filter((name) => name !== null);
  const buttons = names
    .slice(0, MOST_CHAINS)
    .map((name) =>
      element(
        "button",
        { type: "button", class: "chip", onclick: () => choose(name) },
        report.name(name),
      ),
    );
  const more = names.length - buttons.length;
  if (!names.length) return null;
  return element(
    "p",
    { class: "lead" },
    "To be looked at: ",
    buttons,
    more > 0 ? ` and ${more} more` : "",
  );
}

/* Checks whose values are worth a drawing. */
const DRAWINGS = {
  pit: [
    "PIT",
    "Flat where the model fits; ∪ where intervals are too narrow, ∩ where too wide.",
    report.drawPit,
  ],
  calibration: [
    "Calibration by size",
    "Share of stores inside the 80\u00a0% interval that the others predict for them.",
    report.drawCalibration,
  ],
};

function modelPlots(checks, width) {
  const shown = checks.filter((check) => check.check in DRAWINGS && check.values?.length > 2);
  if (!shown.length) return [];
  const across = width < 820 ? 1 : Math.min(4, Math.max(3, shown.length));
  const room = Math.min(420, Math.floor((width - 16 * (across - 1)) / across));
  const figures = shown.map((check) => {
    const [title, note, draw] = DRAWINGS[check.check];
    const of = check.pool === null ? "all chains" : report.visible(check.pool);
    const figure = element(
      "figure",
      { class: "checked" },
      element(
        "figcaption",
        {},
        element("b", {}, `${title}, ${of}. `),
        element("span", { class: "quiet" }, note),
      ),
      draw(check.values, room),
    );
    figure.style.width = `${room}px`;
    return figure;
  });
  return [element("div", { class: "small-plots" }, figures)];
}

function modelTable(checks) {
  const heads = ["", "check", "of", "value", "limit", "what it says"];
  const rows = checks.map((check) => [
    report.status(check.status),
    told(check.check),
    told(check.pool ?? "all chains"),
    report.number(check.value, 4),
    report.number(check.threshold, 4),
    told(check.message),
  ]);
  return rows.length ? checkTable("Checks of the model", heads, rows) : null;
}

/* --- what came in ---------------------------------------------------------------------------- */

report.showInput = (width) => {
  const { days, rejections } = report.facts;
  const held = days.filter((day) => !["complete", "empty"].includes(day.state));
  document.getElementById("input").append(
    element("h2", { id: "input-title" }, "What came in"),
    element(
      "figure",
      {},
      element(
        "figcaption",
        {},
        "Rows of each day of the window: ",
        legend([
          ["accepted", "posterior"],
          ["repeated", "muted"],
          ["rejected", "raw"],
        ]),
      ),
      report.drawDays(days, width),
    ),
    ...held.map((day) =>
      element("p", {}, report.status("warn"), ` ${day.day} is ${day.state}: ${day.reason}`),
    ),
    element("h3", {}, "Rejected rows"),
    ...(rejections.length ? rejected(rejections) : [element("p", {}, "None.")]),
  );
};

function legend(entries) {
  return entries.map(([name, colour]) => element("span", { class: `key ${colour}` }, name));
}
report.legend = legend;

function rejected(rejections) {
  return rejections.map((one) =>
    element(
      "details",
      { class: "rejected" },
      element(
        "summary",
        {},
        element("b", {}, report.count(one.rows)),
        ` ${one.reason}`,
        element(
          "span",
          { class: "quiet" },
          [one.column, one.metric].filter(Boolean).map((name) => ` · ${report.visible(name)}`),
        ),
      ),
      one.of.length
        ? checkTable(
            "Examples",
            ["file", "row", "day", "value", "what to do"],
            one.of.map((row) => [
              told(row.file),
              report.count(row.row ?? 0),
              row.day ?? "–",
              told(row.value),
              told(row.remedy),
            ]),
          )
        : element("p", {}, "No example is kept."),
    ),
  );
}
