/* Names for what the admin's own scripts put into a page without one. */
(() => {
    "use strict";
    const regions = [
        ["#nav-sidebar", "Navigation"],
        ["#changelist-filter", "Filters"],
        ["#changelist", "Rows"],
    ];
    const name = () => {
        for (const region of document.querySelectorAll(".simplebar-content-wrapper[role=region]")) {
            const [, words] = regions.find(([place]) => region.closest(place)) ?? ["", "More"];
            if (region.ariaLabel !== words) region.setAttribute("aria-label", words);
        }
        for (const search of document.querySelectorAll(".select2-search__field:not([aria-label])")) {
            const select = search.closest(".select2")?.previousElementSibling;
            search.setAttribute("aria-label", select?.labels?.[0]?.textContent.trim() || "Search");
        }
    };
    document.addEventListener("DOMContentLoaded", () => {
        name();
        new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
    });
})();
