from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """The functions of wallet/sql/one_round_trip.sql, and what they let the table do without."""

    dependencies = [("wallet", "0007_auditrun_mailed")]

    operations = [
        migrations.RunSQL(
            (SQL / "one_round_trip.sql").read_text(),
            (SQL / "one_round_trip_reverse.sql").read_text(),
        ),
        migrations.AlterField(
            model_name="transfer",
            name="wallet",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="transfers",
                to="wallet.wallet",
            ),
        ),
        migrations.RemoveConstraint(model_name="transfer", name="transfer_accounts_known"),
        migrations.RemoveConstraint(model_name="transfer", name="transfer_kind_names_its_accounts"),
        migrations.AddConstraint(
            model_name="transfer",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("debit_account__range", (1, 9)),
                        ("debit_account__gte", 1000),
                        _connector="OR",
                    ),
                    models.Q(
                        ("credit_account__range", (1, 9)),
                        ("credit_account__gte", 1000),
                        _connector="OR",
                    ),
                ),
                name="transfer_accounts_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="transfer",
            constraint=models.CheckConstraint(
                condition=models.Func(
                    "kind",
                    "debit_account",
                    "credit_account",
                    "amount",
                    "reverses",
                    function="transfer_fits_its_kind",
                    output_field=models.BooleanField(),
                ),
                name="transfer_kind_names_its_accounts",
            ),
        ),
    ]
