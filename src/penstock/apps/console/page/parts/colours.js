// The colours of the page as a canvas takes them.

/** Return the tokens of these names, as they are where an element stands. */
export function colours(element, names) {
  const probe = document.createElement("span");
  element.append(probe);
  const found = {};
  for (const name of names) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}
