"""Evidence for people of ours: as a download, never shown, and each taking written down."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_GET

from smsactivator.common.files import SAVED_ONLY, UNKNOWN_TYPE
from support import attachments
from support.attachments import AttachmentUnknown


@require_GET
def download(request: HttpRequest, attachment_id: int) -> HttpResponse:
    """The file as it was sent, as bytes to save. Needs support.view_attachment."""
    try:
        found = attachments.read(request.user, attachment_id)
    except AttachmentUnknown:
        raise Http404 from None
    disposition = content_disposition_header(as_attachment=True, filename=found.name)
    response = HttpResponse(
        bytes(found.blob.content), content_type=UNKNOWN_TYPE, headers=SAVED_ONLY
    )
    response["Content-Disposition"] = str(disposition)
    return response
