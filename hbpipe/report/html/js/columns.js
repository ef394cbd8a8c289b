"use strict";

/* The columns of the table of stores, and the order of its rows by one of them. */

const textColumn = (title, level, last = false) => ({ title, level, last, kind: "text" });
const numberColumn = (title, name, show, hint) => ({ title, name, show, hint, kind: "number" });

function columnsOf({ metric, sheet, units, everywhere }) {
  const format = report.alignedOf(metric);
  const short = (value) => report.number(value, 2);
  const { share, probability } = report;
  const last = units.levels.length - 1;
  const above = everywhere
    ? units.levels.slice(0, -1).map((one, k) => textColumn(one.name, k))
    : [];
  const every = [
    textColumn(units.levels[last].name, last, true),
    ...above,
    numberColumn("n", "n", report.count, "observations behind raw"),
    numberColumn("raw", "raw", format, "what the store alone says"),
    numberColumn("mean", "mean", format, "the estimate"),
    {
      title: "interval",
      name: "mean",
      kind: "interval",
      hint: "hollow: raw; bar: the interval; dot: mean",
    },
    numberColumn("low", "low", format, "lower limit"),
    numberColumn("high", "high", format, "upper limit"),
    numberColumn("weight", "weight", (value) => share(value), "of the store's own observations"),
    numberColumn(
      "percentile",
      "expected_percentile",
      (value) => share(value),
      "expected, within the chain",
    ),
    numberColumn("top 10 %", "p_top_10", probability, "probability"),
    numberColumn("bottom 10 %", "p_bottom_10", probability, "probability"),
    numberColumn("below target", "p_below_target", probability, "probability"),
    numberColumn("above 0", "p_above_zero", probability, "probability"),
    numberColumn("s-value", "s_value", short, "against the chain's mean"),
    numberColumn("last day q", "last_day_q", short, "adjusted p-value of the last day"),
    numberColumn("change", "change_sd", short, "in sds, against the release before"),
  ];
  return every.filter((one) => one.kind === "text" || sheet[one.name]);
}

const classOf = (column) =>
  column.kind === "text"
    ? `text ${column.last ? "level-last" : "level-above"}`
    : `${column.kind} ${column.name}`;

/* What has no number comes last, in either direction; equals stay in their order. */
function ordered(rows, key, down) {
  const keys = new Map(rows.map((row) => [row, key(row)]));
  const sign = down ? -1 : 1;
  return rows.sort((a, b) => {
    const [x, y] = [keys.get(a), keys.get(b)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a - b;
    return sign * (x - y) || a - b;
  });
}
