"""JSON Schemas of the operators' custom resources, read from crates that are generated from the operators' own CRDs.

The crates (https://github.com/metio/kube-custom-resources-rs) are pinned, checked against the registry's index and kept by
cargo. Kopium, which writes them, makes one `pub struct` or `pub enum` per object of a CRD, one field per line; that much
Rust is read here. Fields without `Option` are required, fields that are not there are refused.
RabbitMQ's operators have no such crate: rabbitmq.schema.yaml holds, by hand, what is used of them and nothing else.
"""

import os
import pathlib
import re
import subprocess

import yaml

CRATES = {  # crate: version, and the resources to read from it
    "kcr_keda_sh": ("3.20260609.65038", ["v1alpha1/scaledobjects"]),
    "kcr_monitoring_coreos_com": (
        "3.20260613.160609", ["v1/podmonitors", "v1/servicemonitors", "v1/prometheusrules"]),
    "kcr_psmdb_percona_com": ("3.20260615.162917", ["v1/perconaservermongodbs"]),
}

KUBE = re.compile(r'#\[kube\(group = "([^"]+)", version = "([^"]+)", kind = "([^"]+)"')
TYPE = re.compile(r"^pub (struct|enum) (\w+) \{$")
FIELD = re.compile(r"^    pub (?:r#)?(\w+): (.+),$")
VARIANT = re.compile(r"^    (\w+),$")
RENAME = re.compile(r'rename = "([^"]*)"')

SCALARS = {
    "String": {"type": "string"}, "bool": {"type": "boolean"}, "f64": {"type": "number"},
    "i32": {"type": "integer"}, "i64": {"type": "integer"}, "IntOrString": {"type": ["integer", "string"]},
}


class Unavailable(Exception):
    """A crate that is neither kept on this machine nor to be had."""


def schemas():
    """{(apiVersion, kind): schema of the whole resource}"""
    found = {}
    for crate, (version, resources) in CRATES.items():
        folder = source(crate, version)
        for resource in resources:
            found |= read((folder / "src" / f"{resource}.rs").read_text())
    by_hand = yaml.safe_load((pathlib.Path(__file__).parent / "rabbitmq.schema.yaml").read_text())
    for entry in by_hand:
        key = (entry["apiVersion"], entry["kind"])
        found[key] = resource_schema(*key, entry["spec"], {})
    return found


def source(crate, version):
    """The folder of a crate's source, fetched by cargo if it is not there yet."""
    home = pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo")
    kept = lambda: next(home.glob(f"registry/src/*/{crate}-{version}"), None)
    if kept() is None:
        # `cargo info` is what fetches one crate without its dependencies.
        fetch = ["cargo", "info", "--quiet", "--registry", "crates-io", f"{crate}@{version}"]
        try:
            subprocess.run(fetch, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120, cwd="/")
        except (OSError, subprocess.TimeoutExpired):
            pass
    return kept() or _unavailable(crate, version)


def _unavailable(crate, version):
    raise Unavailable(f"the crate {crate} {version} could not be fetched; try: cargo info {crate}@{version}")


def read(text):
    """The schema of the resource that a generated file declares."""
    group, version, kind = KUBE.search(text).groups()
    types, name, pending, root = {}, None, None, None
    for line in text.splitlines():
        if opened := TYPE.match(line):
            name = opened[2]
            if opened[1] == "enum":
                types[name] = {"enum": []}
            else:
                types[name] = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
                root = root or name
        elif line == "}":
            name = None
        elif name and (renamed := RENAME.search(line)):
            pending = renamed[1]
        elif name and (field := FIELD.match(line)):
            add_field(types[name], pending or field[1], field[2])
            pending = None
        elif name and (variant := VARIANT.match(line)):
            types[name]["enum"].append(pending if pending is not None else variant[1])
            pending = None
    return {(f"{group}/{version}", kind): resource_schema(f"{group}/{version}", kind, ref(root), types)}


def add_field(struct, name, rust):
    optional = rust.startswith("Option<")
    struct["properties"][name] = schema_of(rust[7:-1] if optional else rust)
    if not optional:
        struct["required"].append(name)


def schema_of(rust):
    if rust in SCALARS:
        return SCALARS[rust]
    if rust.startswith("Vec<"):
        return {"type": "array", "items": schema_of(rust[4:-1])}
    if rust.startswith("BTreeMap<String, "):
        return {"type": "object", "additionalProperties": schema_of(rust[17:-1])}
    if rust in ("serde_json::Value", "Condition"):
        return {}
    return ref(rust)


def ref(name):
    return {"$ref": f"#/$defs/{name}"}


def resource_schema(api_version, kind, spec, types):
    return {
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"const": api_version}, "kind": {"const": kind},
            "metadata": {"type": "object", "required": ["name"]}, "spec": spec,
        },
        "$defs": types,
    }
