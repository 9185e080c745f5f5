// A form keeps its key for as long as its place in the browser's history: who goes back and sends
// it again sends the same request, not a second one.
const key = document.querySelector("form.panel [name=key]");
if (key) {
    const kept = history.state?.key;
    if (kept) key.value = kept;
    else history.replaceState({ ...history.state, key: key.value }, "");
}
