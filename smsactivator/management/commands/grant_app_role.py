"""Give the application's database role what it needs, and nothing else."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, transaction

# Rows that are written once. Histories, which are many, are known by their names.
WRITTEN_ONCE = {
    "axes_accessfailurelog",
    "django_admin_log",
    "orders_sms",
    "orders_smsreading",
    "refunds_refund",
    "smsactivator_staffchange",
    "support_attachment",
    "support_attachmentreading",
    "support_blob",
    "support_message",
    "support_ticketorder",
    "wallet_close",
    "wallet_closefigure",
    "support_ticketpayout",
    "wallet_deposit",
    "wallet_filedownload",
    "wallet_payoutfile",
    "wallet_payoutmove",
    "wallet_resultfile",
    "wallet_resultline",
    "wallet_claimfile",
    "wallet_claimfilereading",
    "wallet_exportdownload",
    "wallet_holding",
    "wallet_liabilitycheck",
    "wallet_seal",
    "wallet_sealedrows",
    "wallet_transfer",
}
_DECIDED = ("state", "decided_by_id", "decided_at", "decision_reason")
# Rows of which only these columns change; a wallet's money is written by a trigger of the owner's.
CHANGED_IN_PART = {
    "axes_accesslog": ("logout_time",),
    "smsactivator_alarm": ("text", "count", "last_at", "mailed_at"),
    "wallet_auditrun": ("mailed",),
    "wallet_wallet": ("state",),
    "refunds_refundrequest": (
        *_DECIDED,
        *("against_verdict", "goodwill_id", "disputed_at"),
        *("resolved_by_id", "resolved_at", "resolution_reason"),
    ),
    "smsactivator_passwordlink": ("attempts", "tried_at", "sent_at"),
    "smsactivator_addressnotice": ("attempts", "tried_at", "sent_at"),
    "support_outbound": (
        *("state", "attempts", "tries_left", "due_at", "sent_at"),
        *("mail_id", "sent_to", "problem"),
    ),
    "support_ticketrefund": ("disputed_by_id",),
    "support_wait": (
        *("due_at", "half_at", "three_quarters_at", "ended_at", "outcome", "reply_id"),
        *("half_warned_at", "three_quarters_warned_at", "breach_recorded_at"),
    ),
    "wallet_batchline": ("live",),
    "wallet_claim": (*_DECIDED, "froze"),
    "wallet_correction": (*_DECIDED, "transfer_id"),
    "wallet_payout": (
        *("state", "attempt", "sent_again_by_id"),
        *("approved_by_id", "approved_at", "second_by_id", "second_at"),
        *("decided_by_id", "decided_at", "decision_reason"),
        *("transaction_hash", "fee", "fee_currency", "settled_at", "problem", "failed_by_id"),
    ),
    "wallet_payoutbatch": (
        *("state", "exported_by_id", "exported_at", "submitted_by_id", "submitted_at"),
        *("voided_by_id", "voided_at", "void_reason"),
    ),
    "wallet_payoutmethod": ("memo_rule", "contract", "coinspaid_code", "inqud_code", "enabled"),
    "wallet_refusedaddress": ("why", "note", "active"),
    "wallet_payoutoutcome": ("told_at",),
    "wallet_accountoutcome": ("told_at",),
    "wallet_export": (
        *("state", "attempt", "heartbeat_at", "read_at", "rows_expected", "rows_done"),
        *("size", "sha256", "finished_at", "expires_at", "problem"),
    ),
    "wallet_reinstatement": (*_DECIDED, "transfer_id"),
    "wallet_termination": (
        *_DECIDED,
        *("transfer_id", "wallet_amount", "orders_amount", "orders_ended", "reinstated"),
    ),
}
# Rows of which these columns never change.
FIXED = {
    "orders_order": ("id", "customer_id", "price", "purchase_id"),
    "support_ticket": (
        *("id", "customer_id", "subject", "channel", "opened_at", "key", "follows_id"),
    ),
}
# What Django's own pages delete, wrong passwords that no longer count, drafts, the exceptions
# of the business calendar, and files of exports.
DELETED = {
    "axes_accessattempt",
    "axes_accessattemptexpiration",
    "auth_group",
    "auth_group_permissions",
    "auth_user_groups",
    "auth_user_user_permissions",
    "django_session",
    "smsactivator_draft",
    "support_calendarexception",
    "wallet_exportpart",
    "wallet_rolelimit",
}
# Written by migrations alone.
READ = {"auth_permission", "django_content_type", "django_migrations"}
CHANGED = {
    "axes_accessattempt",
    "axes_accessattemptexpiration",
    "auth_group",
    "auth_user",
    "django_session",
    "orders_offer",
    "orders_upstream",
    "refunds_sweep",
    "smsactivator_draft",
    "support_calendar",
    "support_macro",
    "support_viewing",
    "wallet_apikey",
    "wallet_customer",
    "wallet_rolelimit",
    "wallet_storefront",
}
# Rows that are added and removed, and never changed.
LINKS = {
    "auth_group_permissions",
    "auth_user_groups",
    "auth_user_user_permissions",
    "support_calendarexception",
    "wallet_exportpart",
}


def is_written_once(table: str) -> bool:
    """Whether rows of this table never change."""
    return table in WRITTEN_ONCE or "_historical" in table


def columns_that_change(table: str) -> tuple[str, ...]:
    """The columns that the application may change where it may not change all of them."""
    if table in CHANGED_IN_PART:
        return CHANGED_IN_PART[table]
    [model] = [model for model in apps.get_models() if model._meta.db_table == table]
    columns = [str(field.column) for field in model._meta.concrete_fields]
    return tuple(column for column in columns if column not in FIXED[table])


def privileges(table: str) -> list[str]:
    """What the application may do with a table. Raises LookupError for one not classified."""
    may = ["SELECT"]
    if table in READ:
        return may
    may.append("INSERT")
    if table in CHANGED_IN_PART or table in FIXED:
        may.append(f"UPDATE ({', '.join(columns_that_change(table))})")
    elif table in CHANGED:
        may.append("UPDATE")
    elif not is_written_once(table) and table not in LINKS:
        raise LookupError(f"grant_app_role does not know what may be done with {table}.")
    if table in DELETED:
        may.append("DELETE")
    return may


class Command(BaseCommand):
    """Run as the owner of the tables, after every ``migrate``; running it again changes nothing."""

    help = "Grant a database role exactly what the application needs (run as the tables' owner)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("role", help="a role that exists and owns nothing")

    def handle(self, *args: Any, role: str, **options: Any) -> None:
        quote = connection.ops.quote_name
        name = quote(role)
        with transaction.atomic(), connection.cursor() as cursor:
            # Whoever owns a table, or may become who does, can switch its triggers off.
            cursor.execute(
                """
                SELECT rolsuper OR rolcreaterole OR EXISTS (
                    SELECT FROM pg_class
                    WHERE relnamespace = 'public'::regnamespace
                        AND pg_has_role(pg_roles.oid, relowner, 'MEMBER'))
                FROM pg_roles WHERE rolname = %s
                """,
                [role],
            )
            found = cursor.fetchone()
            if found is None or found[0]:
                raise CommandError(
                    f"{role} is not a role that can be limited: make one with "
                    f"CREATE ROLE {name} LOGIN PASSWORD '…'"
                )
            tables = sorted(connection.introspection.table_names(cursor))
            statements = [
                f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {name}",
                f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {name}",
                f"REVOKE ALL ON SCHEMA public FROM {name}",
                f"GRANT USAGE ON SCHEMA public TO {name}",
                f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {name}",
                *(
                    f"GRANT {', '.join(privileges(table))} ON {quote(table)} TO {name}"
                    for table in tables
                ),
            ]
            for statement in statements:
                cursor.execute(statement)
        self.stdout.write(f"{role} may do what the application does in {len(tables)} tables.")
