"use strict";

/* The choice of metric and chain, and what follows from it. */

const chosen = { sheet: 0, pool: 0 };

function chooser(label, id, options, picked) {
  const select = element(
    "select",
    { id, onchange: () => picked(Number(select.value)) },
    options.map((text, value) => element("option", { value }, report.visible(text))),
  );
  return element("label", { for: id }, element("span", {}, label), select);
}

function showChoosers(sheets, update) {
  const metricOf = (sheet) => report.facts.metrics.find((one) => one.name === sheet.metric);
  const labels = sheets.map((sheet) => report.label({ name: metricOf(sheet).name }, sheet.term));
  document.getElementById("choose").append(
    chooser("Metric", "metric", labels, (sheet) => update({ sheet })),
    chooser("Chain", "pool", report.facts.pools, (pool) => update({ pool })),
    element("div", { class: "jumps" }, ["stores", "audits", "reading"].map(jump)),
  );
}

const jump = (section) =>
  element(
    "a",
    { href: `#${section}` },
    { stores: "Stores", audits: "Audits", reading: "How to read it" }[section],
  );

/* A page that is not shown yet may have no width at all. */
const NARROWEST = 280;

/* As wide as there is room for; drawings are made again when that changes. */
function roomOf(section) {
  const style = getComputedStyle(section);
  const room = section.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  return Math.max(NARROWEST, Math.floor(room));
}

function showReading() {
  const terms = [
    ["raw", "What the store's own events say, and nothing else."],
    [
      "mean, low, high",
      `The posterior mean, and the limits between which the store lies with ${report.certainty()}. They include what the fitted prior does not know.`,
    ],
    ["weight", "How much of the estimate is the store's own; the rest is its chain's."],
    [
      "prior",
      "How the stores of the chain are spread, estimated from all of them by marginal likelihood.",
    ],
    [
      "percentile, top 10 %, bottom 10 %",
      "Where the store stands in its chain, averaged over what is not known of all of them.",
    ],
    [
      "s-value",
      "The share of wrong signs to expect among the stores of the chain that are at least as sure to differ from its mean.",
    ],
    [
      "last day q",
      "How surprising the last day was under the days before, adjusted for the number of stores.",
    ],
  ];
  const { release } = report.facts;
  document.getElementById("reading").append(
    element("h2", { id: "reading-title" }, "How to read it"),
    element(
      "dl",
      { class: "terms" },
      terms.flatMap(([term, meaning]) => [element("dt", {}, term), element("dd", {}, meaning)]),
    ),
  );
  document
    .getElementById("made")
    .append(
      element(
        "p",
        {},
        `Release ${release.release}, published ${release.released_at.replace("T", " ")} by run ${release.run_id}, hbpipe ${release.hbpipe}. Numbers are rounded to four digits; the table posteriors has all of them.`,
      ),
    );
  const out = report.facts.stores.left_out;
  if (out)
    document
      .getElementById("made")
      .append(
        element(
          "p",
          {},
          `${report.count(out)} posteriors had no room here: those with the fewest observations of each chain.`,
        ),
      );
}

/* Metrics as the settings have them, terms as the model has. */
function inOrder(sheets) {
  const { metrics, new_stores: news } = report.facts;
  const metric = (sheet) => metrics.findIndex((one) => one.name === sheet.metric);
  const term = (sheet) =>
    news.findIndex((one) => one.metric === sheet.metric && one.term === sheet.term);
  return d3.sort(sheets, metric, term);
}

async function begin() {
  const bytes = await report.load();
  const units = report.readUnits(bytes, report.facts.stores.units);
  const sheets = inOrder(report.readSheets(bytes, report.facts.stores.sheets));
  const history = report.readHistory(bytes, report.facts.history);
  report.showNight();
  const first = document.getElementById("chain");
  let table = null;

  function draw() {
    const sheet = sheets[chosen.sheet];
    const metric = report.facts.metrics.find((one) => one.name === sheet.metric);
    const view = { metric, sheet, sheets, pool: chosen.pool, units, history, width: roomOf(first) };
    report.showChain(view);
    report.showModel(metric, chosen.pool, view.width, (name) =>
      choosePool(report.facts.pools.indexOf(name)),
    );
    return view;
  }

  function update(change) {
    Object.assign(chosen, change);
    const view = draw();
    table ??= new report.StoreTable(view);
    table.show(view);
  }

  function choosePool(pool) {
    document.getElementById("pool").value = pool;
    update({ pool });
    first.scrollIntoView();
  }

  showChoosers(sheets, update);
  update({});
  report.showAudits();
  report.showInput(roomOf(document.getElementById("input")));
  showReading();
  let width = roomOf(first);
  new ResizeObserver(() => {
    if (Math.abs(roomOf(first) - width) < 8) return;
    width = roomOf(first);
    draw();
    table.render();
  }).observe(document.body);
  document.documentElement.dataset.ready = "";
}

begin();
