// A configuration as YAML, for reading: secrets are taken out by the server.

const PLAIN = /^[A-Za-z0-9_./{}$*@%<>-][A-Za-z0-9_ ./:{}$*@%<>=?&()'-]*$/;

/** Return a value of JSON as lines of YAML. */
export function yaml(value, indent = "") {
  if (Array.isArray(value)) return value.length ? value.map((one) => item(one, indent)).join("\n") : "[]";
  if (value !== null && typeof value === "object") {
    const entries = Object.entries(value);
    return entries.length ? entries.map(([name, one]) => `${indent}${name}:${nested(one, indent)}`).join("\n") : "{}";
  }
  return scalar(value);
}

function item(one, indent) {
  const text = yaml(one, `${indent}  `);
  return one !== null && typeof one === "object" && Object.keys(one).length ? `${indent}- ${text.slice(indent.length + 2)}` : `${indent}- ${text}`;
}

function nested(one, indent) {
  const isDeep = one !== null && typeof one === "object" && Object.keys(one).length > 0;
  return isDeep ? `\n${yaml(one, `${indent}  `)}` : ` ${yaml(one, indent)}`;
}

function scalar(value) {
  if (typeof value !== "string") return JSON.stringify(value);
  return PLAIN.test(value) && !/: |:$| #|^(true|false|null|yes|no|[0-9.+-]+)$/.test(value) ? value : JSON.stringify(value);
}
