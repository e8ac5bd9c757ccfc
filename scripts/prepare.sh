# Sourced by the scripts beside it: installs what they need and is missing, and says what it does.
#
#   need_packages COMMAND=PACKAGE …   Debian packages, by a command that each brings
#   need_container_packages           runc and buildah, to run the manifests' containers and to build the image
#   need_rust                         rustup, and through rust-toolchain.toml the toolchain
#   need_cargo_tool NAME              a cargo subcommand, kept in $tools
#
# shellcheck shell=bash disable=SC2034

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=${LEVEE_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/levee/tools}
target=${CARGO_TARGET_DIR:-$root/target}
# ebtables and ip live in sbin, which an ordinary user's PATH may lack.
export PATH="$tools/bin:$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
warn() { printf '\033[1;33m!! %s\033[0m\n' "$*" >&2; }
die() { printf '\033[1;31m!! %s\033[0m\n' "$*" >&2; exit 1; }

# Runs a command as root: as it is, or through sudo.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else return 1; fi
}

need_packages() {
  local pair missing=()
  for pair in "$@"; do command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing: ${missing[*]}"
  command -v apt-get >/dev/null || die "this system has no apt-get: install what Debian calls ${missing[*]}, then run this again"
  # nginx is wanted as a program that tests start in namespaces of their own, not as a service of this machine.
  local hold_nginx=false
  if [[ " ${missing[*]} " == *" nginx"* && -d /run/systemd/system ]]; then
    hold_nginx=true
    as_root systemctl mask --quiet nginx.service
  fi
  local installed=true
  { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; } || installed=false
  if $hold_nginx; then
    as_root systemctl unmask --quiet nginx.service
    as_root systemctl disable --quiet nginx.service || true
  fi
  $installed || die "cannot install ${missing[*]}: run as root or with sudo, with a package mirror in reach"
}

# What building and the lab need.
need_build_packages() { need_packages curl=curl cc=gcc ld=binutils; need_libc; }
need_lab_packages() {
  need_packages ip=iproute2 ethtool=ethtool ebtables=iptables ping=iputils-ping arping=iputils-arping nginx=nginx-light curl=curl \
    iperf3=iperf3
}

# What the tests of units, image and manifests judge by.
need_container_packages() {
  need_packages runc=runc buildah=buildah setpriv=util-linux systemd-analyze=systemd nft=nftables
}

# A compiler without the C library's headers links nothing.
need_libc() {
  [ -n "$(find /usr/include /usr/lib -maxdepth 3 -name crt1.o -print -quit 2>/dev/null)" ] && return 0
  say "installing: libc6-dev"
  as_root apt-get install -y -qq --no-install-recommends libc6-dev >/dev/null || die "cannot install libc6-dev"
}

need_rust() {
  if ! command -v cargo >/dev/null; then
    say "installing: rustup (no cargo here), into $HOME/.cargo"
    curl --proto '=https' --tlsv1.2 -sSf https://static.rust-lang.org/rustup/rustup-init.sh |
      sh -s -- -y --quiet --no-modify-path --profile minimal --default-toolchain none ||
      die "cannot install rustup: see https://rustup.rs, then run this again"
  fi
  # rustup reads rust-toolchain.toml and fetches what it names.
  (cd "$root" && cargo --version >/dev/null) || die "the toolchain of rust-toolchain.toml cannot be had: is static.rust-lang.org in reach?"
}

need_cargo_tool() {
  command -v "$1" >/dev/null && return 0
  say "installing: $1, into $tools (kept for the next time)"
  cargo install --quiet --locked --root "$tools" "$1" || die "cannot install $1: is crates.io in reach?"
}
