// What must stand before gradio begins: the language and the theme that were chosen in this browser, kept in cookies,
// so that the server reads the same choice. Without a choice all is as the browser says.
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
