"""Every key of every section, as the classes of the sections declare it."""

from collections.abc import Mapping
from typing import Any, NamedTuple, get_type_hints

import msgspec

from spark_w2v.config.sections import Config
from spark_w2v.config.wording import as_toml, kind_required, range_of


class Key(NamedTuple):
    """One key of one section, as its class declares it."""

    section: str
    name: str
    hint: Any
    types: tuple[msgspec.inspect.Type, ...]
    default: Any
    description: str
    reasons: Mapping[str, str]  # why not too_small, why not too_large

    @property
    def path(self) -> str:
        return f"{self.section}.{self.name}"

    @property
    def is_text(self) -> bool:
        """Whether any text will do, so that an override's `7` is the string "7"."""
        return isinstance(self.types[0], msgspec.inspect.StrType)

    def values(self) -> str:
        return ", or ".join(", ".join(filter(None, [kind_required(t), range_of(t)])) for t in self.types)


def _declared_keys() -> dict[str, dict[str, Key]]:
    sections: dict[str, dict[str, Key]] = {}
    for section, section_class in get_type_hints(Config).items():
        hints = get_type_hints(section_class, include_extras=True)
        info = msgspec.inspect.type_info(section_class)
        assert isinstance(info, msgspec.inspect.StructType)
        sections[section] = {}
        for field in info.fields:
            meta = field.type
            assert isinstance(meta, msgspec.inspect.Metadata), f"{section}.{field.name} has no description"
            types = meta.type.types if isinstance(meta.type, msgspec.inspect.UnionType) else (meta.type,)
            description = (meta.extra_json_schema or {})["description"]
            reasons = meta.extra or {}
            sections[section][field.name] = Key(
                section, field.name, hints[field.name], types, field.default, description, reasons
            )
    return sections


SECTIONS = _declared_keys()
KEYS = {key.path: key for keys in SECTIONS.values() for key in keys.values()}


def reference() -> str:
    """Every key as Markdown: the text of docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "<!-- Written by `python -m spark_w2v.config` from spark_w2v/config/; a test keeps it so. -->",
        "",
        "A run is configured by one TOML file; `conf/local.toml` and `conf/cluster.toml` are examples.",
        "`--set section.key=value`, any number of times, wins over the file; strings need no quotes there.",
        "What neither gives keeps its default. Spark's own settings (memory, cores, master) are not here:",
        "they are on the command line of `spark-submit`, or in `conf/spark-defaults.conf`, which is for one machine.",
    ]
    for section, keys in SECTIONS.items():
        lines += [
            "",
            f"## [{section}]",
            "",
            str(get_type_hints(Config)[section].__doc__),
            "",
            "| key | value | default | meaning |",
            "|---|---|---|---|",
        ]
        for key in keys.values():
            cells = [f"`{key.name}`", key.values(), f"`{as_toml(key.default)}`", key.description]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
