// The theme: light, dark, or as the system has it. theme.js sets it before anything is painted.

export const THEMES = {
  system: { next: "dark", icon: "system", name: "As the system" },
  dark: { next: "light", icon: "moon", name: "Dark" },
  light: { next: "system", icon: "sun", name: "Light" },
};

/** Return the theme that was chosen. */
export const chosen = () => (Object.hasOwn(THEMES, document.documentElement.dataset.theme ?? "") ? document.documentElement.dataset.theme : "system");

/** Take a theme, and keep it for the next time. */
export function choose(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("penstock-theme", theme);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
  dispatchEvent(new CustomEvent("theme"));
}
