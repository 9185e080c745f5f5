"""What the database's rules ask for, in sentences of a form."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError


class Explained:
    """Before ``models.Model``: a broken constraint is said at a field, and not by its name.

    The sentences are not part of the constraints, so that a word that is changed is no migration.
    """

    # By the constraint's name: the field where it is said, and the sentence.
    sentences: ClassVar[Mapping[str, tuple[str, str]]] = {}

    def validate_constraints(self, exclude: Collection[str] | None = None) -> None:
        """As the model's, with these sentences."""
        hidden = set(exclude or ())
        errors: dict[str, list[ValidationError]] = {}
        model: Any = type(self)
        for constraint in model._meta.constraints:
            try:
                constraint.validate(model, self, exclude=hidden)
            except ValidationError as broken:
                if constraint.name not in self.sentences:
                    broken.update_error_dict(errors)
                    continue
                field, sentence = self.sentences[constraint.name]
                place = NON_FIELD_ERRORS if field in hidden else field
                errors.setdefault(place, []).append(ValidationError(sentence, code="constraint"))
        if errors:
            raise ValidationError(errors)
