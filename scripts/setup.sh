# Makes the project's environment; sourced by the scripts that need it. Sets $python.
#
#   need_packages PACKAGE...   installs Debian packages that are missing (as root, or with sudo)
#   make_environment run|dev|fuzz
#                              makes .venv with what scripts/locks/ says, again only when that has changed
#   install_locked PYTHON LOCK installs what a lock names, if its hashes are right

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
        echo "error: these packages are missing and need root: $*" >&2
        exit 1
    fi
}

need_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    echo "Installing ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

find_python() {
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: Python 3.11 or newer is needed: apt-get install python3 python3-venv" >&2
    return 1
}

# Nothing is built here, as that would ask for packages that no lock names.
install_locked() {
    "$1" -m pip install -q --disable-pip-version-check --require-hashes --only-binary=:all: -r "$2"
}

make_environment() {
    local base lock made
    base=$(find_python)
    lock=scripts/locks/$1.txt
    made=.venv/made-$1-$(cat pyproject.toml "$lock" <("$base" --version) | sha256sum | cut -c1-16)
    python=$PWD/.venv/bin/python
    [ -e "$made" ] && return
    if ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then need_packages python3-venv; fi
    echo "Installing into .venv (once)"
    "$base" -m venv .venv
    install_locked "$python" "$lock"
    "$python" -m pip install -q --disable-pip-version-check --no-index --no-deps --no-build-isolation -e .
    find .venv -maxdepth 1 -name "made-$1-*" -delete
    touch "$made"
}
