/* Before a session ends by itself the page says so, and whoever types is not taken for gone. */
(() => {
    "use strict";
    const ADDRESS = "/admin/session";
    const WARN = 180; // seconds before the end
    const LOOK = 60; // seconds between two questions to the server
    const SOON = 10; // the same, while the page warns
    let note, timer, left, by, askedAt, stayedAt = Date.now();

    const token = () => document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";

    const show = (words, ...controls) => {
        if (!note) {
            note = document.createElement("div");
            note.id = "session-note";
            note.setAttribute("role", "alert");
            document.body.append(note);
        }
        note.replaceChildren(Object.assign(document.createElement("p"), { textContent: words }), ...controls);
        note.hidden = false;
    };

    const button = () => {
        const stay = document.createElement("button");
        Object.assign(stay, { type: "button", className: "button", textContent: "Stay logged in" });
        stay.addEventListener("click", () => ask("POST"));
        return stay;
    };

    const loginLink = () => {
        const link = document.createElement("a");
        const next = location.pathname + location.search;
        Object.assign(link, { className: "button", textContent: "Log in again", href: `/admin/login/?next=${encodeURIComponent(next)}` });
        return link;
    };

    const tell = () => {
        const now = left - Math.floor((Date.now() - askedAt) / 1000);
        if (now > WARN) {
            if (note) note.hidden = true;
        } else if (by === "length") {
            show(`You will be logged out in ${span(now)}: a session lasts no longer. What you type is kept: log in again, and it is there.`);
        } else {
            show(`You will be logged out in ${span(now)}, because nothing happened here.`, button());
        }
        return now;
    };

    const span = (seconds) => {
        const minutes = Math.ceil(Math.max(seconds, 0) / 60);
        return minutes === 1 ? "less than a minute" : `${minutes} minutes`;
    };

    const ask = async (method = "GET") => {
        clearTimeout(timer);
        timer = setTimeout(ask, LOOK * 1000);
        let answer;
        try {
            answer = await fetch(ADDRESS, { method, headers: { "X-CSRFToken": token() } });
        } catch {
            return; // out of reach: the next look tells
        }
        if (answer.status === 401) {
            clearTimeout(timer);
            show("You are logged out. What you typed is kept.", loginLink());
            return;
        }
        if (!answer.ok) return;
        ({ left, by } = await answer.json());
        askedAt = Date.now();
        if (method === "POST") stayedAt = askedAt;
        const now = tell();
        clearTimeout(timer);
        timer = setTimeout(ask, Math.min(LOOK, now > WARN ? now - WARN + 1 : SOON) * 1000);
    };

    addEventListener("input", () => {
        if (askedAt && Date.now() - stayedAt > LOOK * 1000) {
            stayedAt = Date.now();
            ask("POST");
        }
    });
    // A page that nobody is logged in to has no session to lose.
    const look = () => document.hidden || !document.getElementById("logout-form") || ask();
    document.addEventListener("visibilitychange", look);
    addEventListener("DOMContentLoaded", look);
})();
