// Runs before anything is drawn, so that the page does not flash in the other colours.
"use strict";
{
  const chosen = () => {
    try {
      return localStorage.getItem("qwen35-theme");
    } catch {
      return null; // storage may be forbidden
    }
  };
  const theme = chosen();
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}
