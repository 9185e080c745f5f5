"""Settings. Everything that differs between machines comes from the environment (.env.example)."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from celery.schedules import crontab
from csp import constants as csp
from django.urls import reverse_lazy

from smsactivator.environment import Environment
from smsactivator.unfold import UNFOLD as UNFOLD

BASE_DIR = Path(__file__).resolve().parent.parent
environment = Environment()
PRODUCTION = environment.production

SECRET_KEY = environment.secret_key()
DEBUG = environment.boolean("DEBUG", default=False)
if DEBUG and PRODUCTION:
    environment.problems.append("DEBUG must be off in production.")
ALLOWED_HOSTS = environment.allowed_hosts()
CSRF_TRUSTED_ORIGINS = environment.trusted_origins()

_database = environment.database()
if _database:
    _pool_size = environment.integer("DATABASE_POOL_SIZE", 8, least=0, most=200)
    _options = _database["OPTIONS"]
    _database["OPTIONS"] |= {  # type: ignore[operator]
        "application_name": "smsactivator",
        # Batches look thousands of rows up by their keys. Compiling such a statement takes longer
        # than running it, and the server's default thinks of disks that turn.
        "options": f"-c jit=off -c random_page_cost=1.1 {_options.get('options', '')}".strip(),  # type: ignore[attr-defined]
    }
    if _pool_size:
        _database["OPTIONS"] |= {  # type: ignore[operator]
            "pool": {"min_size": 1, "max_size": _pool_size, "timeout": 10},
        }
    _database["CONN_HEALTH_CHECKS"] = True
DATABASES = {"default": _database}

REDIS_URL = environment.redis_url()

# --- the business -------------------------------------------------------------------------------
# Policy 2026-05-07: "No SMS within the 20-minute SLA". Stored on each order as its deadline.
ORDER_SLA = timedelta(seconds=environment.integer("ORDER_SLA_SECONDS", 1200, least=5, most=86_400))
# An order that was not allocated within this time never will be (design: "within 60 s").
ALLOCATION_TIMEOUT = timedelta(
    seconds=environment.integer("ALLOCATION_TIMEOUT_SECONDS", 60, least=60, most=600)
)
# How long past its deadline an order waits for a look at an upstream that cannot be reached.
UPSTREAM_GRACE = timedelta(
    seconds=environment.integer("UPSTREAM_GRACE_SECONDS", 120, least=0, most=3_600)
)
# Payouts: above this amount, USD, two people approve; a customer's changed address waits this long.
PAYOUT_SECOND_APPROVAL_FROM = Decimal(
    environment.integer("PAYOUT_SECOND_APPROVAL_USD", 500, least=0, most=1_000_000)
)
PAYOUT_COOL_DOWN = timedelta(
    seconds=environment.integer("PAYOUT_COOL_DOWN_SECONDS", 86_400, least=0, most=7_776_000)
)
BEAT_SECONDS = environment.integer("BEAT_SECONDS", 5, least=1, most=60)
AUDIT_SECONDS = environment.integer("AUDIT_SECONDS", 300, least=5, most=86_400)
# /healthz turns bad when the last sweep, or the oldest overdue order, is older than this.
HEALTH_STALE = timedelta(
    seconds=environment.integer("HEALTH_STALE_SECONDS", 60, least=5, most=3600)
)

# How long after it was resolved a ticket is reopened by a message; later, another one follows it.
TICKET_GRACE = timedelta(
    seconds=environment.integer("TICKET_GRACE_SECONDS", 604_800, least=60, most=7_776_000)
)
# How long a claim of a ticket lasts, unless it is renewed.
TICKET_LEASE = timedelta(
    seconds=environment.integer("TICKET_LEASE_SECONDS", 900, least=30, most=86_400)
)
# What a message may bring as evidence. The bytes are kept in the database (decision 0021).
ATTACHMENT_BYTES = environment.integer(
    "ATTACHMENT_BYTES", 10 * 1024**2, least=1024, most=50 * 1024**2
)
ATTACHMENTS_PER_MESSAGE = environment.integer("ATTACHMENTS_PER_MESSAGE", 5, least=1, most=20)

# Who comes in: so many wrong passwords lock an account at an address, for so long.
LOGIN_FAILURES = environment.integer("LOGIN_FAILURES", 5, least=2, most=100)
LOGIN_LOCK = timedelta(
    seconds=environment.integer("LOGIN_LOCK_SECONDS", 900, least=60, most=86_400)
)
# A session ends when nothing was done for so long, and after its longest time in any case.
SESSION_IDLE = timedelta(
    seconds=environment.integer("SESSION_IDLE_SECONDS", 1800, least=300, most=43_200)
)
SESSION_LONGEST = timedelta(
    seconds=environment.integer("SESSION_SECONDS", 43_200, least=600, most=604_800)
)
# Where people reach the admin: the beginning of links in mails to them. A request's own Host is not
# asked.
SITE_ADDRESS = environment.site_address(ALLOWED_HOSTS)
# The header in which the proxy tells a client's address; without one it is the connection's.
CLIENT_ADDRESS_HEADER = environment.text("CLIENT_ADDRESS_HEADER")

# How long the file of an export is kept; that it was made, and its SHA-256, stays.
EXPORT_KEPT = timedelta(days=environment.integer("EXPORT_DAYS", 7, least=1, most=90))

# One key per wholesaler, by the code of its row: UPSTREAM_KEY_<CODE>.
UPSTREAM_KEYS = environment.by_prefix("UPSTREAM_KEY_")

# How long an attempt to deliver a reply may take; longer than a mail server's answers together,
# each of which has EMAIL_TIMEOUT. One that takes longer is flagged as perhaps sent.
OUTBOX_LEASE = timedelta(minutes=10)

# Who is told when an audit or a request fails, and the server that takes the mail.
ADMINS = [(address, address) for address in environment.words("ADMIN_EMAILS")]
SERVER_EMAIL = DEFAULT_FROM_EMAIL = environment.text("SERVER_EMAIL", "root@localhost")
# Customers are written to from this address, and reply to it.
SUPPORT_EMAIL = environment.text("SUPPORT_EMAIL", SERVER_EMAIL)
# A development copy sends no mail: it writes it into files for people to read, or to the log.
EMAIL_FILE_PATH = None if PRODUCTION else environment.text("MAIL_DIR") or None
if PRODUCTION:
    EMAIL_BACKEND = "support.smtp.EmailBackend"
elif EMAIL_FILE_PATH:
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
else:
    EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
EMAIL_HOST = environment.text("EMAIL_HOST", "localhost")
EMAIL_PORT = environment.integer("EMAIL_PORT", 25, least=1, most=65_535)
EMAIL_HOST_USER = environment.text("EMAIL_USER")
EMAIL_HOST_PASSWORD = environment.text("EMAIL_PASSWORD")
EMAIL_USE_TLS = environment.boolean("EMAIL_TLS", default=False)
EMAIL_SUBJECT_PREFIX = "[smsactivator] "
EMAIL_TIMEOUT = 10

environment.refuse_if_wrong()

# --- Django -------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "unfold.contrib.simple_history",
    "smsactivator.apps.SiteConfig",
    "support.apps.SupportConfig",
    "refunds.apps.RefundsConfig",
    "orders.apps.OrdersConfig",
    "wallet.apps.WalletConfig",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django_fsm",
    "simple_history",
    "axes",
    "csp",
    "ninja",
]

MIDDLEWARE = [
    "smsactivator.api.ProblemsOnly",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "smsactivator.sessions.EndOfSession",
    "django.contrib.messages.middleware.MessageMiddleware",
    "smsactivator.drafts.KeepWhatWasTyped",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "smsactivator.urls"
WSGI_APPLICATION = "smsactivator.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "smsactivator" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "smsactivator.drafts.page_by",
            ],
        },
    },
]

# A second factor would be one more step between these and the session.
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "smsactivator.passwords.NotCommonInDisguise"},
    {"NAME": "smsactivator.passwords.DifferentCharacters"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

# The limits are in smsactivator.lockout; these names are the library's.
AXES_HANDLER = "smsactivator.lockout.Limits"
AXES_CLIENT_IP_CALLABLE = "smsactivator.lockout.client_address"
AXES_USERNAME_CALLABLE = "smsactivator.lockout.account"
AXES_LOCKOUT_CALLABLE = "smsactivator.lockout.locked"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = LOGIN_FAILURES
AXES_COOLOFF_TIME = LOGIN_LOCK
AXES_RESET_ON_SUCCESS = True
# Whoever tries on does not lock the account for longer.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_ENABLE_ACCESS_FAILURE_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "csrfmiddlewaretoken", "next"]

LANGUAGE_CODE = "en-us"
USE_I18N = False
DATE_FORMAT = "Y-m-d"
DATETIME_FORMAT = "Y-m-d H:i:s"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
# Development serves the files from where they are.
STATIC_ROOT = (
    Path(environment.text("STATIC_ROOT", str(BASE_DIR / "staticfiles"))) if PRODUCTION else None
)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": (
            "whitenoise.storage.CompressedManifestStaticFilesStorage"
            if PRODUCTION
            else "django.contrib.staticfiles.storage.StaticFilesStorage"
        )
    },
}
WHITENOISE_USE_FINDERS = not PRODUCTION
WHITENOISE_AUTOREFRESH = False

# The API takes small JSON only; the admin's forms are small too.
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2000

CSRF_FAILURE_VIEW = "smsactivator.drafts.csrf_failed"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PRODUCTION
# Longer than a session lasts (smsactivator.sessions): one that ended is known by whose it was.
SESSION_COOKIE_AGE = int(SESSION_LONGEST.total_seconds()) + 24 * 3600
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# Scripts come from our own files alone: no inline one runs. Those of the admin's look (Alpine)
# compile the expressions of its templates, hence unsafe-eval; styles are also set by scripts. So
# an element brought into a page with Alpine's attributes (x-init) would run: that templates escape
# all text keeps it out, and not this header.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [csp.SELF],
        "script-src": [csp.SELF, csp.UNSAFE_EVAL],
        "style-src": [csp.SELF, csp.UNSAFE_INLINE],
        "img-src": [csp.SELF, "data:"],
        "font-src": [csp.SELF, "data:"],
        "object-src": [csp.NONE],
        "base-uri": [csp.NONE],
        "form-action": [csp.SELF],
        "frame-ancestors": [csp.NONE],
    }
}
if PRODUCTION:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = [r"^healthz$"]
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    # Entering a domain in the browsers' preload lists is its owner's decision, and hard to undo.
    SILENCED_SYSTEM_CHECKS = ["security.W021"]

LOGIN_URL = reverse_lazy("admin:login")
LOGIN_REDIRECT_URL = reverse_lazy("admin:index")

SIMPLE_HISTORY_HISTORY_CHANGE_REASON_USE_TEXT_FIELD = True
SIMPLE_HISTORY_DATE_INDEX = False  # history is read by row, and its rows are many

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "filters": {"forbidden": {"()": "smsactivator.common.logs.ForbiddenInOneLine"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "django.request": {"filters": ["forbidden"]},
        # Each log-in has a row; the log tells of wrong passwords and locks.
        "axes": {"level": "WARNING"},
        "django.security.DisallowedHost": {"filters": ["forbidden"]},
        # In place of Django's own handlers, one of which mails from inside a request.
        "django": {"handlers": [], "level": "INFO"},
        # httpx logs whole URLs at INFO, and a wholesaler's key may be in one.
        "httpx": {"level": "WARNING"},
        "httpcore": {"level": "WARNING"},
    },
}

DEFAULT_EXCEPTION_REPORTER = "smsactivator.common.logs.Reporter"
DEFAULT_EXCEPTION_REPORTER_FILTER = "smsactivator.common.logs.SafeFilter"

# --- Celery -------------------------------------------------------------------------------------
CELERY_BROKER_URL = REDIS_URL
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# The beat finds what was never queued, so a storefront's request need not wait for the broker.
CELERY_TASK_PUBLISH_RETRY_POLICY = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.2,
    "interval_max": 0.2,
}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
# A task is acknowledged when done: a killed worker's task runs again, and every task may run twice.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_DEFAULT_QUEUE = "money"
# What talks to wholesalers waits for them; what moves money never waits behind it. Looks decide
# refunds, so they wait for no purchase. A mail server may take long, and an audit reads everything.
CELERY_TASK_ROUTES = {
    "orders.tasks.allocate": {"queue": "upstream"},
    "orders.tasks.release_due_numbers": {"queue": "upstream"},
    "refunds.tasks.look_at_upstream": {"queue": "looks"},
    "refunds.tasks.look_at_rentals": {"queue": "upstream"},
    "support.tasks.send": {"queue": "mail"},
    "support.tasks.send_due": {"queue": "mail"},
    "smsactivator.tasks.send_password_links": {"queue": "mail"},
    # An export reads much and takes long; whoever waits for one waits for that.
    "wallet.tasks.write_export": {"queue": "exports"},
    "wallet.tasks.tend_exports": {"queue": "exports"},
    "smsactivator.tasks.tell_alarms": {"queue": "mail"},
    "smsactivator.tasks.audit": {"queue": "audit"},
    "smsactivator.tasks.seal_days": {"queue": "audit"},
    "smsactivator.tasks.close_books": {"queue": "audit"},
    "smsactivator.tasks.prove_books": {"queue": "audit"},
    "support.tasks.recalculate_open_tickets": {"queue": "audit"},
}
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 300,
    "socket_connect_timeout": 3,
    "socket_timeout": 5,
    "global_keyprefix": environment.text("REDIS_PREFIX"),
}
# A broker that accepts and stays silent must not hold a storefront's request. On connections that
# were there and that are made anew four answers are waited for: the order is answered in 2 s.
BROKER_WRITE_OPTIONS = {"socket_connect_timeout": 0.3, "socket_timeout": 0.3, "max_retries": 0}
# After a broker did not answer, a process queues nothing for so long: the beat does.
BROKER_PAUSE = BEAT_SECONDS
# A late message that nobody needs any more is dropped: the next beat does its work. The machines'
# clocks need not agree to the second.
TASK_EXPIRES = 60
_every = {"expires": TASK_EXPIRES}
CELERY_BEAT_SCHEDULER = "smsactivator.beat:Scheduler"
# Never asleep for longer, also when the clock is set while it reckons for how long.
CELERY_BEAT_MAX_LOOP_INTERVAL = BEAT_SECONDS
CELERY_BEAT_SCHEDULE = {
    "sweep-refunds": {
        "task": "refunds.tasks.sweep",
        "schedule": BEAT_SECONDS,
        "options": _every,
    },
    "look-at-upstreams": {
        "task": "refunds.tasks.look_at_upstreams",
        "schedule": BEAT_SECONDS,
        "options": _every,
    },
    "allocate-forgotten-orders": {
        "task": "orders.tasks.allocate_forgotten",
        "schedule": BEAT_SECONDS,
        "options": _every,
    },
    "finish-delivered-orders": {
        "task": "orders.tasks.finish_delivered",
        "schedule": BEAT_SECONDS,
        "options": _every,
    },
    "release-numbers": {
        "task": "orders.tasks.release_due_numbers",
        "schedule": BEAT_SECONDS,
        "options": _every,
    },
    "tend-outbox": {
        "task": "support.tasks.tend_outbox",
        "schedule": BEAT_SECONDS,
        "options": _every,
    },
    "send-due-mail": {
        "task": "support.tasks.send_due",
        "schedule": BEAT_SECONDS,
        "options": _every,
    },
    "tell-alarms": {
        "task": "smsactivator.tasks.tell_alarms",
        "schedule": 60,
        "options": _every,
    },
    "send-password-links": {
        "task": "smsactivator.tasks.send_password_links",
        "schedule": 60,
        "options": _every,
    },
    "tend-exports": {
        "task": "wallet.tasks.tend_exports",
        "schedule": 30,
        "options": _every,
    },
    "tell-payouts": {
        "task": "support.tasks.tell_payouts",
        "schedule": BEAT_SECONDS,
        "options": _every,
    },
    "tell-accounts": {
        "task": "support.tasks.tell_accounts",
        "schedule": BEAT_SECONDS,
        "options": _every,
    },
    "audit-ledger": {
        "task": "smsactivator.tasks.audit",
        "schedule": AUDIT_SECONDS,
        "options": {"expires": AUDIT_SECONDS},
    },
    # From the first transfer on, which also finds what was tampered with since it was proved.
    "audit-ledger-in-full": {
        "task": "smsactivator.tasks.audit",
        "schedule": crontab(hour=3, minute=30),
        "kwargs": {"full": True},
        "options": {"expires": 6 * 3600},
    },
    "seal-days": {
        "task": "smsactivator.tasks.seal_days",
        "schedule": crontab(minute=12),
        "options": {"expires": 3600},
    },
    # After the seals, which it needs.
    "close-books": {
        "task": "smsactivator.tasks.close_books",
        "schedule": crontab(minute=17),
        "options": {"expires": 3600},
    },
    "prove-books": {
        "task": "smsactivator.tasks.prove_books",
        "schedule": crontab(hour=3, minute=50),
        "options": {"expires": 3600},
    },
    "recalculate-open-tickets": {
        "task": "support.tasks.recalculate_open_tickets",
        "schedule": crontab(minute=42),
        "options": {"expires": 3600},
    },
    "record-clocks": {
        "task": "support.tasks.record_clocks",
        "schedule": 30,
        "options": _every,
    },
    "close-resolved-tickets": {
        "task": "support.tasks.close_resolved",
        "schedule": 300,
        "options": {"expires": 300},
    },
}
