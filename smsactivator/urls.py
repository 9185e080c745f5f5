"""Where everything answers."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from smsactivator.api import api
from smsactivator.drafts import drafts
from smsactivator.health import healthz
from smsactivator.sessions import session
from smsactivator.staff_pages import ChoosePassword
from support.admin.attachments import download

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path(
        "admin/support/attachment/<int:attachment_id>/download",
        admin.site.admin_view(download),
        name="download_attachment",
    ),
    path("admin/reports/", include(("support.admin.reports", "reports"))),
    path("admin/session", session, name="session"),
    path("admin/drafts", drafts, name="drafts"),
    path("admin/password/<uidb64>/<token>/", ChoosePassword.as_view(), name="choose_password"),
    path("admin/", admin.site.urls),
    path("api/v1/", api.urls),
    path("healthz", healthz),
]
