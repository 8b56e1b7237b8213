// The page's script: shows pushed fragments, plays previews, turns clicks and keys into gradio events. All HTML comes
// from the server, already escaped.
"use strict";

(() => {
  const state = {}; // slot → its content
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  // --- the pushed state: a slot is an element with data-live, on any tab ------------------------------------------
  function fill(root) {
    for (const slot of root.querySelectorAll("[data-live]")) {
      const content = state[slot.dataset.live];
      if (content === undefined || slot.shown === content) continue;
      const active = slot.contains(document.activeElement) ? document.activeElement.dataset : null;
      slot.innerHTML = slot.shown = content;
      if (active?.act) slot.querySelector(`[data-act="${active.act}"][data-id="${active.id ?? ""}"]`)?.focus();
    }
  }

  function listen() {
    const source = new EventSource("studio/live");
    source.onmessage = (message) => {
      document.body.classList.remove("lv-lost");
      const news = JSON.parse(message.data);
      if (news.language) document.documentElement.lang = news.language;
      if ("sprite" in news) sprite.show(news.sprite);
      Object.assign(state, news);
      fill(document);
      const again = "changed" in news ? "[data-refresh]" : "part" in news ? "[data-refresh=part]" : null;
      if (again) document.querySelectorAll(again).forEach((element) => element.dispatchEvent(new Event("refresh")));
    };
    source.onerror = () => {
      document.body.classList.add("lv-lost");
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
    };
  }

  // --- the preview: frames below each other in one small picture -------------------------------------------------
  const sprite = {
    picture: null,
    frame: 0,
    show(news) {
      if (!news) return (this.picture = null);
      const picture = new Image();
      picture.onload = () => Object.assign(this, { picture, frames: news.frames, rate: news.fps });
      picture.src = news.src;
    },
    draw(time) {
      for (const canvas of sprite.picture ? document.querySelectorAll("canvas[data-sprite]") : []) {
        if (!canvas.offsetParent) continue; // its tab is not open
        const { picture, frames, rate } = sprite;
        const height = picture.height / frames;
        const frame = still.matches ? Math.floor(frames / 2) : Math.floor((time / 1000) * rate) % frames;
        canvas.width = picture.width * 8;
        canvas.height = height * 8;
        const context = canvas.getContext("2d");
        context.imageSmoothingQuality = "high";
        context.drawImage(picture, 0, frame * height, picture.width, height, 0, 0, canvas.width, canvas.height);
      }
      setTimeout(() => requestAnimationFrame(sprite.draw), 60);
    },
  };

  // --- panels: HTML whose buttons (data-act) trigger events of the gradio component around it ------------
  const WATCHED = ["data-focus", "data-answer", "data-order", "data-project", "data-id", "data-n", "value", "checked", "selected"];
  function panel(element, trigger) {
    element.addEventListener("click", (event) => {
      const button = event.target.closest("[data-act]");
      if (!button || button.disabled) return;
      if (button.dataset.sure && !confirm(button.dataset.sure)) return;
      trigger({ ...button.dataset, ...taken(button) });
    });
    element.addEventListener("change", ({ target }) => {
      if (target.dataset.edit) trigger({ ...target.dataset, act: target.dataset.edit, value: said(target) });
    });
    element.addEventListener("keydown", (event) => {
      const field = event.target.closest("textarea[data-edit]");
      if (!field || event.key !== "Enter" || event.shiftKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault(); // Enter submits: a prompt is one line
      if (field.value !== field.defaultValue) field.dispatchEvent(new Event("change", { bubbles: true }));
    });
    element.addEventListener("input", ({ target }) => {
      if (target.type === "range" && target.nextElementSibling?.matches("output")) target.nextElementSibling.value = target.value;
    });
    const unfolded = new Set(); // names of the open details, kept when the HTML is replaced
    element.addEventListener("click", ({ target }) => {
      const fold = target.closest("summary")?.parentElement;
      if (fold?.dataset.fold) unfolded[fold.open ? "delete" : "add"](fold.dataset.fold);
    });
    element.addEventListener("refresh", () => trigger({ act: "refresh" }), true);
    let shown, last = 0;
    const follow = () => {
      // Answers may overtake each other: ask again when an older one arrives last.
      const order = Number(element.querySelector("[data-order]")?.dataset.order ?? last);
      const overtaken = order < last;
      last = order;
      if (overtaken) trigger({ act: "refresh" });
      // New content gets the focus.
      const place = element.querySelector("[data-focus]");
      if (place && place.dataset.focus !== shown) requestAnimationFrame(() => place.focus());
      shown = place?.dataset.focus;
      settle(element);
      remember(element);
      for (const fold of element.querySelectorAll("details[data-fold]")) fold.open = unfolded.has(fold.dataset.fold);
    };
    new MutationObserver(follow).observe(element, { childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: WATCHED });
    fill(element);
    follow(); // the content may be older than this script
  }

  const said = (field) => (field.type === "checkbox" ? String(field.checked) : field.value);

  // The value of the field that a button names in data-take.
  function taken(button) {
    const field = button.dataset.take && document.getElementById(`lv-${button.dataset.take}`);
    return field ? { value: field.value } : {};
  }

  // Fields show the server's values, except the one being typed in. Gradio reuses elements for other rows: see `key`.
  function settle(element) {
    for (const field of element.querySelectorAll("[data-edit]")) {
      const { id = "", n = "", name = "" } = field.dataset;
      const key = `${id} ${n} ${name}`;
      const typing = field === document.activeElement && field.key === key && field.type !== "checkbox";
      field.key = key;
      if (typing) continue;
      if (field.type === "checkbox") field.checked = field.defaultChecked;
      else if (field.options) field.value = [...field.options].find((option) => option.defaultSelected)?.value ?? field.value;
      else if (field.value !== field.defaultValue) field.value = field.defaultValue;
    }
  }

  // The open long video, in a cookie that the server reads when the page is opened again.
  function remember(element) {
    const project = element.querySelector("[data-project]")?.dataset.project;
    if (project) document.cookie = `lavie-project=${project}; path=/; samesite=lax; max-age=31536000`;
  }

  // --- cards: arrow keys move the focus, other keys trigger events -----------------------------------------------
  function cards(element, trigger) {
    let last = null; // id of the clip with the focus
    let place = 0;
    let seen = true;
    const all = () => [...element.querySelectorAll(".lv-card")];
    element.addEventListener("keydown", (event) => {
      const card = event.target.closest(".lv-card");
      if (!card || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea")) return;
      const row = all().findIndex((other) => other.offsetTop > all()[0].offsetTop);
      const across = row < 0 ? all().length : row;
      const move = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across }[event.key];
      const own = event.target === card || event.target.matches(".lv-shot"); // not another button
      if (move) {
        (all()[all().indexOf(card) + move] ?? card).focus();
      } else if (event.key === " " && own) {
        const clip = card.querySelector("img[data-moving]");
        play(clip, clip.getAttribute("src") !== clip.dataset.moving);
      } else if (event.key === "Enter" && own) {
        trigger({ act: "show", id: card.dataset.id });
      } else if (/^[0-5xfc]$/.test(event.key)) {
        trigger({ act: "key", key: event.key, id: card.dataset.id });
      } else {
        return;
      }
      event.preventDefault();
    });
    element.addEventListener("focusin", (event) => {
      const card = event.target.closest(".lv-card");
      if (card) [last, place] = [card.dataset.id, all().indexOf(card)];
    });
    for (const [name, on] of [["pointerover", true], ["pointerout", false], ["focusin", true], ["focusout", false]])
      element.addEventListener(name, (event) => {
        const picture = event.target.closest(".lv-card")?.querySelector("img[data-moving]");
        if (picture && !(still.matches && on)) play(picture, on);
      });
    // Gradio reuses elements for other clips: move the focus with its clip, else to the clip in its place.
    const follow = (preventScroll) => {
      const active = document.activeElement;
      const inside = element.contains(active) ? active.closest(".lv-card") : null;
      if (!last || (inside ? inside.dataset.id === last : active !== document.body)) return;
      const card = element.querySelector(`.lv-card[data-id="${CSS.escape(last)}"]`);
      const next = card ?? inside ?? all()[Math.min(place, all().length - 1)];
      if (next === inside) last = inside.dataset.id;
      else next?.focus({ preventScroll });
    };
    const watched = { childList: true, subtree: true, attributes: true, attributeFilter: ["data-id"] };
    new MutationObserver(() => follow(true)).observe(element, watched);
    new ResizeObserver(() => {
      const was = seen;
      seen = element.offsetHeight > 0;
      if (seen && !was) follow(false); // back from another view: scroll to the focused card
    }).observe(element);
  }

  const play = (picture, on) => (picture.src = on ? picture.dataset.moving : picture.dataset.still);

  // --- players in step ------------------------------------------------------------------------------------------------
  function inStep(element) {
    const players = () => [...element.querySelectorAll("video")];
    element.addEventListener("input", (event) => {
      if (event.target.matches("[data-scrub]"))
        for (const player of players()) {
          player.pause();
          player.currentTime = event.target.value * (player.duration || 0);
        }
    });
    element.addEventListener("click", (event) => {
      if (!event.target.closest("[data-play]")) return;
      const paused = players().every((player) => player.paused);
      const [first] = players();
      for (const player of players()) {
        player.currentTime = first.currentTime % (player.duration || 1);
        paused ? player.play() : player.pause();
      }
    });
  }

  // --- a timeline and its player -------------------------------------------------------------------------------------
  const player = () => document.querySelector("video[data-player]");
  document.addEventListener("click", (event) => {
    const place = event.target.closest("[data-seek]");
    if (place && player()?.duration) player().currentTime = Number(place.dataset.seek) * player().duration + 0.001;
  });
  document.addEventListener("timeupdate", ({ target }) => {
    if (target !== player() || !target.duration) return;
    for (const head of document.querySelectorAll(".lv-playhead")) head.style.left = `${(100 * target.currentTime) / target.duration}%`;
  }, true);

  // On a narrow page the screen is below the form: scroll to it on Generate.
  document.addEventListener("click", (event) => {
    const screen = document.querySelector("#lv-screen");
    if (event.target.closest("#lv-generate") && screen && screen.offsetTop > innerHeight)
      screen.scrollIntoView({ behavior: still.matches ? "auto" : "smooth" });
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    document.activeElement?.closest("[data-edit]")?.blur(); // submits the field being typed in
    const main = [...document.querySelectorAll("#lv-generate, #lv-long-render, #lv-train-start")].find((button) => button.offsetParent);
    setTimeout(() => main?.click(), 0);
  });

  // --- language and theme in cookies (see early.js); an empty value deletes the choice ---------------------------------
  document.addEventListener("change", (event) => {
    const { setting } = event.target.dataset;
    if (!setting) return;
    const { value } = event.target;
    document.cookie = `lavie-${setting}=${value}; path=/; samesite=lax; max-age=${value ? 31536000 : 0}`;
    if (setting === "language") location.reload();
    else document.body.classList.toggle("dark", matchMedia("(prefers-color-scheme: dark)").matches);
  });

  window.lavie = { panel, cards, inStep };
  function start() {
    listen();
    requestAnimationFrame(sprite.draw);
  }
  // Gradio may insert this script after DOMContentLoaded.
  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", start) : start();
})();
