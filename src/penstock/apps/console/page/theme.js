// Before anything is painted: the theme that a person chose. Loaded first, and as a classic script, so that nothing flashes.
(() => {
  try {
    const chosen = localStorage.getItem("penstock-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // Without storage the page is as the system says.
  }
})();
