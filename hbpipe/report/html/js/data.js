"use strict";

/* What the page carries: facts in JSON, and columns of numbers as `packing.py` lays them. */

const report = { facts: null };

/* Returns the bytes of the numbers. */
report.load = async () => {
  report.facts = JSON.parse(new TextDecoder().decode(await inflated("facts")));
  return inflated("numbers");
};

async function inflated(id) {
  const letters = document.getElementById(id).textContent.trim();
  const packed = Uint8Array.from(atob(letters), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

report.read = (bytes, { kind, at, count }) => {
  const wide = { whole: Int32Array, float: Float64Array, steps: Int32Array, flags: Uint8Array };
  if (kind === "decimal") {
    const mantissa = joined(bytes, at, count, Int16Array);
    return toNumbers(mantissa, joined(bytes, at + 2 * count, count, Int8Array));
  }
  const values = joined(bytes, at, count, wide[kind]);
  if (kind === "steps") for (let k = 1; k < count; k += 1) values[k] += values[k - 1];
  return values;
};

/* The bytes of each value lie apart, in planes. */
function joined(bytes, at, count, Type) {
  const size = Type.BYTES_PER_ELEMENT;
  const whole = new Uint8Array(count * size);
  for (let plane = 0; plane < size; plane += 1) {
    const from = at + plane * count;
    for (let k = 0; k < count; k += 1) whole[k * size + plane] = bytes[from + k];
  }
  return new Type(whole.buffer);
}

/* NaN where there is no number. */
function toNumbers(mantissa, exponent) {
  const missing = -(2 ** 15);
  return Float64Array.from(mantissa, (m, k) => {
    const e = exponent[k];
    if (m === missing) return NaN;
    return e < 0 ? m / 10 ** -e : m * 10 ** e; // the nearest float to what was written
  });
}

/* Units, each with the names of its levels; null where a level has none. */
report.readUnits = (bytes, units) => {
  const levels = units.levels.map(({ name, names, code }) => ({
    name,
    names,
    code: report.read(bytes, code),
  }));
  const unit = levels.length - 1;
  const nameAt = (level, k) => levels[level].names[levels[level].code[k]] ?? null;
  return { count: units.count, levels, nameAt, name: (k) => nameAt(unit, k) };
};

/* Sheets: the columns of one metric and term, sorted by pool. */
report.readSheets = (bytes, sheets) =>
  sheets.map(({ metric, term, pools, unit, columns }) => {
    const read = Object.entries(columns).map(([name, one]) => [name, report.read(bytes, one)]);
    return { metric, term, pools, unit: report.read(bytes, unit), ...Object.fromEntries(read) };
  });

/* The rows of a pool in a sheet. */
report.rowsOf = (sheet, pool) => d3.range(sheet.pools[pool], sheet.pools[pool + 1]);

/* Hyperparameters by night: for each key the values and their sds. */
report.readHistory = (bytes, { nights, keys, value, sd }) => {
  const [values, sds] = [report.read(bytes, value), report.read(bytes, sd)];
  const days = nights.map((day) => new Date(`${day}T00:00:00Z`));
  return keys.map(([metric, pool, parameter], k) => ({
    metric,
    pool,
    parameter,
    nights: days
      .map((day, n) => ({ day, value: values[n * keys.length + k], sd: sds[n * keys.length + k] }))
      .filter((night) => Number.isFinite(night.value)),
  }));
};
