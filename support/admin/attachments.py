"""Evidence for people of ours: as a download, never shown, and each taking written down."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_GET

from support import attachments
from support.attachments import AttachmentUnknown

# Whatever a file holds, no browser of ours runs it, frames it or keeps it.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-store",
}


@require_GET
def download(request: HttpRequest, attachment_id: int) -> HttpResponse:
    """The file as it was sent, as bytes to save. Needs support.view_attachment."""
    try:
        found = attachments.read(request.user, attachment_id)
    except AttachmentUnknown:
        raise Http404 from None
    disposition = content_disposition_header(as_attachment=True, filename=found.name)
    response = HttpResponse(
        bytes(found.blob.content), content_type=attachments.UNKNOWN_TYPE, headers=_HEADERS
    )
    response["Content-Disposition"] = str(disposition)
    return response
