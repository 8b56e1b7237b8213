// Runs before gradio: applies the language and theme from cookies, which the server reads too. Without them the
// browser's own settings apply.
"use strict";

(() => {
  const chosen = (name) => document.cookie.match(`(?:^|; )lavie-${name}=(\\w+)`)?.[1];
  const language = chosen("language");
  if (language) {
    Object.defineProperty(navigator, "language", { get: () => language });
    Object.defineProperty(navigator, "languages", { get: () => [language] });
  }
  const ask = window.matchMedia.bind(window);
  window.matchMedia = (query) => {
    const theme = query.includes("prefers-color-scheme") && chosen("theme");
    return ask(theme ? (query.includes(theme) ? "all" : "not all") : query);
  };
})();
