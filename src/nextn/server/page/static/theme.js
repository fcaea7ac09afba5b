// Sets the theme before the first paint; a module would come too late for that.
"use strict";

{
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try {
      return JSON.parse(localStorage.getItem("nextn.settings") ?? "{}").theme;
    } catch {
      return "auto";
    }
  };
  const apply = () => {
    const theme = chosen();
    const isDark = theme === "dark" || (theme !== "light" && dark.matches);
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
  };
  dark.addEventListener("change", apply);
  addEventListener("themechange", apply);
  apply();
}
