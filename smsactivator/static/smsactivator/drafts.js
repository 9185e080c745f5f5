/* What is typed into a form is kept until it is sent: on the server for whoever typed it, and in
   this browser only until the server has it. It is never shown to another person. */
(() => {
    "use strict";
    const ADDRESS = "/admin/drafts";
    const AFTER = 2000; // milliseconds of rest before the server is told
    const mine = document.getElementById("logout-form");
    if (!mine) return;
    const { at, by, user } = mine.dataset;
    const PREFIX = "typed:";
    const token = () => document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";
    const random = () => [...crypto.getRandomValues(new Uint8Array(16))].map((n) => n.toString(16).padStart(2, "0")).join("");
    let opening = random();
    const waiting = new Map();
    const sentNames = new Map();
    // A browser may refuse to keep anything.
    const within = (step) => {
        try {
            return step();
        } catch {
            return null;
        }
    };

    // Where the browser keeps nothing (it is full, or told not to) the page does until it is left.
    const here = new Map();
    const copyAt = (key) => here.get(key) ?? within(() => localStorage.getItem(key));
    const copy = (key, text) => {
        here.delete(key);
        if (within(() => (localStorage.setItem(key, text), true)) === null) {
            here.set(key, text);
            within(() => localStorage.removeItem(key));
        }
    };
    const drop = (key) => {
        here.delete(key);
        within(() => localStorage.removeItem(key));
    };

    // What was sent is needed no more, and what another person left here never was ours.
    for (const [, name, gone] of document.cookie.matchAll(/(?:^|; )(sent-[0-9a-f]+)=([^;]+)/g)) {
        drop(PREFIX + decodeURIComponent(gone));
        document.cookie = `${name}=; path=/admin/; max-age=0`;
    }
    for (const [store, prefix] of [["localStorage", PREFIX], ["sessionStorage", "beside:"], ["sessionStorage", "names:"]]) {
        within(() => {
            for (const key of Object.keys(window[store])) {
                if (key.startsWith(prefix) && !key.startsWith(`${prefix}${user}:`)) window[store].removeItem(key);
            }
        });
    }

    const forms = () => [...document.querySelectorAll("form")].filter(
        (form) => form.method === "post" && form !== mine && form.id !== "changelist-form" && !/\/(login|logout)\/$/.test(form.action),
    );
    // A form with an id needs no address, which some pages' scripts set and change.
    const nameOf = (form) => `${form.closest("section[id]")?.id ?? ""}|${form.id ? "" : (form.getAttribute("action") ?? "")}|${form.id}`.slice(0, 200);
    const keyOf = (form) => `${PREFIX}${user}:${at}:${nameOf(form)}`;
    const controls = (form) => [...form.elements].filter(
        (one) => one.name && !one.name.includes("password") && !["hidden", "password", "file", "submit", "button", "reset"].includes(one.type) && one.tagName !== "BUTTON" && one.tagName !== "FIELDSET",
    );
    const changed = (one) => {
        if (one.type === "checkbox" || one.type === "radio") return one.checked !== one.defaultChecked;
        if (one.tagName === "SELECT") {
            const options = [...one.options];
            if (one.multiple || options.some((option) => option.defaultSelected)) {
                return options.some((option) => option.selected !== option.defaultSelected);
            }
            return one.selectedIndex > 0;
        }
        return one.value !== one.defaultValue;
    };
    const valuesOf = (form, names) => {
        const fields = {};
        for (const [name, value] of new FormData(form)) {
            if (names.has(name) && typeof value === "string") (fields[name] ??= []).push(value);
        }
        for (const name of names) fields[name] ??= [];
        return fields;
    };
    // A form that says what was wrong shows what was typed as if it had always been there: which of
    // it was typed is remembered from when it was sent, and the rest is as the page found it.
    const namesAt = (form) => `names:${user}:${at}:${nameOf(form)}`;
    const sentBefore = (form) => {
        if (!sentNames.has(form)) {
            sentNames.set(form, JSON.parse(within(() => sessionStorage.getItem(namesAt(form))) ?? "null"));
            within(() => sessionStorage.removeItem(namesAt(form)));
        }
        return sentNames.get(form);
    };
    // What was wrong is said in the form, or above all forms of the page for the one that was sent.
    const WRONG = ".errorlist, .errornote, .refusal, .error";
    const refusedAbove = [...document.querySelectorAll(WRONG)].some((one) => !one.closest("form"));
    const refused = (form) => form.querySelector(WRONG) !== null || (refusedAbove && sentBefore(form) !== null);
    const typedIn = (form) => new Set(controls(form).filter((one) => changed(one) || (refused(form) && sentBefore(form)?.includes(one.name))).map((one) => one.name));
    const page = (form, names) => JSON.stringify({ by, form: nameOf(form), page: opening, typed: [...names] });

    const post = (body, keepalive = false) => fetch(ADDRESS, { method: "POST", headers: { "X-CSRFToken": token() }, body: new URLSearchParams(body), keepalive });

    const save = async (form, keepalive = false) => {
        clearTimeout(waiting.get(form));
        waiting.delete(form);
        const kept = copyAt(keyOf(form));
        if (!kept) return;
        const fields = JSON.parse(kept);
        try {
            const answer = await post({ page: page(form, Object.keys(fields)), fields: kept }, keepalive);
            // Typed further meanwhile: the next turn sends it. What the server will never take (422)
            // is not brought back either: nobody would ever say that it was sent.
            if ((answer.ok || answer.status === 422) && copyAt(keyOf(form)) === kept) drop(keyOf(form));
        } catch {
            // Out of reach: it stays in the browser.
        }
    };

    const typed = (event) => {
        const form = event.target.form;
        if (!form || !forms().includes(form)) return;
        const names = typedIn(form);
        copy(keyOf(form), JSON.stringify(valuesOf(form, names)));
        clearTimeout(waiting.get(form));
        waiting.set(form, setTimeout(() => save(form), AFTER));
    };

    const fill = (form, fields, when) => {
        let filled = false;
        for (const one of controls(form)) {
            const values = fields[one.name];
            if (!values || changed(one)) continue;
            if (one.type === "checkbox" || one.type === "radio") one.checked = values.includes(one.value);
            else if (one.tagName === "SELECT") for (const option of one.options) option.selected = values.includes(option.value);
            else one.value = values[0] ?? "";
            filled ||= changed(one);
        }
        if (!filled || form.querySelector(".draft-note")) return;
        const note = document.createElement("p");
        note.className = "draft-note";
        note.setAttribute("role", "status");
        note.textContent = `What you typed here${when ? ` (${when} UTC)` : ""} and did not send is here again. `;
        const away = Object.assign(document.createElement("button"), { type: "button", className: "button-quiet", textContent: "Throw it away" });
        away.addEventListener("click", () => {
            drop(keyOf(form));
            post({ page: page(form, []), forget: "1" });
            form.reset();
            note.remove();
        });
        note.append(away);
        form.prepend(note);
        for (let inside = form.closest("details"); inside; inside = inside.parentElement.closest("details")) inside.open = true;
    };

    // A form that was refused shows what was sent: its last words are in it, and nothing is put over them.
    const restore = async () => {
        if (!forms().length) return;
        for (const form of forms()) {
            const kept = copyAt(keyOf(form));
            if (!kept) continue;
            if (!refused(form)) fill(form, JSON.parse(kept), "");
            await save(form);
        }
        try {
            const answer = await fetch(`${ADDRESS}?at=${encodeURIComponent(at)}`);
            if (!answer.ok) return;
            for (const draft of (await answer.json()).drafts) {
                const form = forms().find((one) => nameOf(one) === draft.form);
                if (form && !refused(form)) fill(form, draft.fields, draft.at);
            }
        } catch {
            // Out of reach.
        }
    };

    addEventListener("input", typed);
    addEventListener("change", typed);
    // On the way out: what is sent says whose page it is from; who logs out leaves nothing here.
    addEventListener("submit", (event) => {
        const form = event.target;
        if (form === mine) {
            for (const one of forms()) save(one, true);
            here.clear();
            within(() => {
                for (const key of Object.keys(localStorage)) if (key.startsWith(PREFIX)) localStorage.removeItem(key);
                sessionStorage.clear();
            });
            return;
        }
        if (event.defaultPrevented || !forms().includes(form)) return;
        clearTimeout(waiting.get(form));
        waiting.delete(form);
        form.querySelector("input[name=_page]")?.remove();
        const names = typedIn(form);
        within(() => sessionStorage.setItem(namesAt(form), JSON.stringify([...names])));
        form.append(Object.assign(document.createElement("input"), { type: "hidden", name: "_page", value: page(form, names) }));
    });
    addEventListener("pageshow", (event) => {
        if (event.persisted) opening = random();
    });
    addEventListener("pagehide", () => {
        for (const form of waiting.keys()) save(form, true);
    });
    addEventListener("DOMContentLoaded", () => {
        for (const form of forms()) sentBefore(form);
        restore();
    });
})();
