/* The page of a case: canned replies fill the text, and colleagues see who has it open. */
(() => {
    "use strict";
    const page = document.querySelector(".case");
    if (!page) return;

    for (const select of document.querySelectorAll("select[data-fills]")) {
        select.addEventListener("change", () => {
            const target = document.getElementById(select.dataset.fills);
            const body = select.selectedOptions[0].dataset.body;
            if (target && body) {
                target.value = target.value ? `${target.value.trimEnd()}\n\n${body}` : body;
                target.focus();
            }
            select.value = "";
        });
    }

    // What is kept of a text is its writer's: the next person at this machine is not shown it.
    const whose = document.getElementById("logout-form")?.dataset.user ?? "";
    const keptAt = (form) => `beside:${whose}:${form.action.split("#")[0]}`;

    // A button that was pressed is not pressed again while the answer is on its way.
    for (const form of page.querySelectorAll("form[method=post]")) {
        form.addEventListener("submit", (event) => {
            if (form.dataset.sent) event.preventDefault();
            form.dataset.sent = "yes";
            // What was typed into the other forms is there again on the page that answers.
            const typed = [...page.querySelectorAll("textarea")]
                .filter((text) => text.form !== form && text.value)
                .map((text) => [text.id, text.value]);
            sessionStorage.setItem(keptAt(form), JSON.stringify(typed));
        });
    }
    for (const place of new Set([...page.querySelectorAll("form")].map(keptAt))) {
        for (const [id, value] of JSON.parse(sessionStorage.getItem(place) ?? "[]")) {
            const text = document.getElementById(id);
            if (text && !text.value) text.value = value;
        }
        sessionStorage.removeItem(place);
    }
    window.addEventListener("pageshow", () => {
        for (const form of page.querySelectorAll("form")) delete form.dataset.sent;
    });

    // Each form keeps its key for as long as the page has its place in the browser's history: who
    // goes back and sends a form again sends the same one, not a second one.
    const keys = { ...history.state?.keys };
    for (const key of page.querySelectorAll("form [name=key]")) {
        const place = key.closest("section").id;
        keys[place] ??= key.value;
        key.value = keys[place];
    }
    history.replaceState({ ...history.state, keys }, "");

    const url = page.dataset.presence;
    const token = page.querySelector("[name=csrfmiddlewaretoken]");
    if (!url || !token) return;
    const others = document.getElementById("others");
    const look = async () => {
        if (document.hidden) return;
        let answer;
        try {
            answer = await fetch(url, { method: "POST", headers: { "X-CSRFToken": token.value } });
        } catch {
            return; // out of reach: the next look tells
        }
        if (!answer.ok) return;
        const now = await answer.json();
        const words = [now.others];
        if (String(now.version) !== page.dataset.version) {
            words.push("Something happened here since you opened it: load the page again.");
        }
        others.textContent = words.filter(Boolean).join(" ");
    };
    look();
    window.setInterval(look, 20_000);
    document.addEventListener("visibilitychange", look);
})();
