# Sourced by the other scripts: `setup EXTRA` makes .venv and installs the project with that extra.
# Safe to run again; does nothing where neither pyproject.toml nor constraints.txt has changed.

setup() { # EXTRA [VENV [OPTION OF PIP ...]]
    local extra=$1 venv=${2:-.venv} python=${PYTHON:-python3} stamp wanted
    shift $(($# < 2 ? $# : 2))
    [ $# -gt 0 ] || set -- -c constraints.txt
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
        echo "Python 3.10 or newer is needed; set PYTHON to one, e.g. PYTHON=python3.12 bash $0" >&2
        return 2
    fi
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    stamp=$venv/installed-$extra
    wanted=$(cat pyproject.toml constraints.txt | "$venv/bin/python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        echo "Installing into $venv; the first time this takes a minute or two ..." >&2
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" -e ".[$extra]"
        echo "$wanted" >"$stamp"
    fi
}
