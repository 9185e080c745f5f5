/* A page that is loaded again by itself, and never under somebody's hands: not while a field, a link
   or a button of it has the focus, while words are marked, or while it is paused. */
(() => {
    "use strict";
    const note = document.querySelector("[data-refresh]");
    if (!note) return;
    const place = `paused:${location.pathname}`;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "link";
    const paused = () => sessionStorage.getItem(place) === "yes";
    const show = () => {
        button.textContent = paused() ? "Go on" : "Pause";
        note.querySelector("[data-refresh-words]").textContent = paused()
            ? "not refreshed until you go on."
            : `refreshed every ${note.dataset.refresh} seconds.`;
    };
    button.addEventListener("click", () => {
        if (paused()) sessionStorage.removeItem(place);
        else sessionStorage.setItem(place, "yes");
        show();
        button.blur();
    });
    note.append(" ", button);
    show();
    const busy = () =>
        paused() ||
        document.hidden ||
        (document.activeElement !== null && document.activeElement !== document.body) ||
        String(document.getSelection()) !== "";
    window.setInterval(() => {
        if (!busy()) location.reload();
    }, Number(note.dataset.refresh) * 1000);
})();
