// Sets the theme before the first paint; a module would come too late for that.
"use strict";

{
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let theme = "auto";
  try {
    theme = JSON.parse(localStorage.getItem("nextn.settings") ?? "{}").theme;
  } catch {
    // Nothing is kept, or it is broken; then the system decides.
  }
  const apply = () => {
    const isDark = theme === "dark" || (theme !== "light" && dark.matches);
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
  };
  dark.addEventListener("change", apply);
  addEventListener("themechange", (event) => {
    theme = event.detail;
    apply();
  });
  apply();
}
