"""Makes the bill of materials of a released binary from what `cargo cyclonedx` writes.

The tool goes by Cargo's lock file, and so also lists crates behind optional features that nobody has turned
on: a scanner would warn of what is not there. Here only those stay that `cargo tree` says are compiled. Added
is what no lock file knows: Rust's standard library and musl. Paths of the machine it was built on are left
out.

Usage: bill-of-materials.py TOOL_OUTPUT ROOT RUST_VERSION MUSL_VERSION < `cargo tree` output, "name vVERSION"
"""

import json
import sys


def main(tool_output, root, rust_version, musl_version):
    with open(tool_output, encoding="utf-8") as file:
        bill = json.loads(file.read().replace(f"file://{root}", "file:///build"))
    project = bill["metadata"]["component"]
    compiled = {crate(line) for line in sys.stdin if line.strip()}
    compiled.discard((project["name"], project["version"]))

    components = [part for part in bill["components"] if identity(part) in compiled]
    missing = compiled - {identity(part) for part in components}
    if missing:
        sys.exit(f"The bill of materials lacks {sorted(missing)}.")

    added = [
        system_library("rust-std", rust_version, "MIT OR Apache-2.0", "https://github.com/rust-lang/rust"),
        system_library("musl", musl_version, "MIT", "https://musl.libc.org"),
    ]
    kept = {part["bom-ref"] for part in components} | {project["bom-ref"]}
    bill["components"] = sorted(components + added, key=identity)
    bill["dependencies"] = [
        {**edge, "dependsOn": [to for to in edge.get("dependsOn", []) if to in kept]}
        for edge in bill["dependencies"]
        if edge["ref"] in kept
    ]
    # The parts of the project itself, one entry per build target.
    project.pop("components", None)
    json.dump(bill, sys.stdout, indent=2, ensure_ascii=False)
    print()


def crate(line):
    """`tokio v1.54.0 (proc-macro) (*)` to ("tokio", "1.54.0")."""
    name, version = line.split()[:2]
    return name, version.removeprefix("v")


def identity(component):
    return component["name"], component["version"]


def system_library(name, version, license, source):
    return {
        "type": "library",
        "bom-ref": f"{name}@{version}",
        "name": name,
        "version": version,
        "scope": "required",
        "licenses": [{"expression": license}],
        "externalReferences": [{"type": "vcs", "url": source}],
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
