const RPM_ARCHITECTURES =
  '(?:noarch|x86_64|i[3-6]86|aarch64|armv7hl|ppc64le|ppc64|s390x|riscv64|loongarch64|src)'
// Releases of distributions that have RPM: Fedora, Red Hat, Amazon, Mageia, openEuler, Azure, openSUSE.
const RPM_RELEASE = '\\.?(?:fc|el|amzn|mga|oe|cm|azl|lp|suse)\\d[\\w.]*'
const VERSION = '[\\w.+~^]+'

/**
 * The forms of lines that other package managers write. Some of them are valid for FreeBSD or Debian as well: `rpm -qa`
 * prints `bash-5.2.26-1.fc39.x86_64`, which would be version `1.fc39.x86_64` of `bash-5.2.26`.
 */
const FORMS: readonly (readonly [manager: string, form: RegExp])[] = [
  ['RPM', new RegExp(`^[\\w.+-]+-(?:\\d+:)?${VERSION}-${VERSION}\\.${RPM_ARCHITECTURES}$`)],
  ['RPM', new RegExp(`^[\\w.+-]+[-=](?:\\d+:)?${VERSION}-${VERSION}?${RPM_RELEASE}$`)],
  ['RPM', /^gpg-pubkey[-=][0-9a-f]{8}-[0-9a-f]{8}(?:\.\(none\))?$/],
  ['RPM', new RegExp(`^[\\w.+-]+\\.${RPM_ARCHITECTURES}\\s+\\S+-\\S+(?:\\s+@?\\S+)?$`)],
  ['pacman', /^[\w@.+-]+ (?:\d+:)?[\w.+~]+-\d+(?:\.\d+)?$/],
  [
    'pacman',
    /^[\w@.+-]+-(?:\d+:)?[\w.+~]+-\d+(?:\.\d+)?-(?:x86_64|aarch64|any)(?:\.pkg\.tar\S*)?$/,
  ],
  ['Nix', /^(?:\/nix\/store\/)?[0-9a-df-np-sv-z]{32}-/],
  ['Guix', /^\/gnu\/store\//],
  ['Slackware', /^[\w.+-]+-(?:x86_64|i[3-6]86|noarch|aarch64|arm)-\d+[\w.]*$/],
  ['Gentoo', /^=?[a-z0-9-]+\/[\w+-]+-\d/],
  ['XBPS', /^(?:ii|uu|hr) +[\w.+-]+-[^\s-]+_\d+(?:\s|$)/],
  ['dpkg -l', /^(?:ii|rc|hi) +[a-z0-9][a-z0-9.+:-]* +\S+ +\S+/],
  ['Homebrew', /^[\w@.+-]+ \d[\w.+]*(?:_\d+)?(?: \d\S*)*$/],
  ['pip', /^[\w.[\]-]+==\S+$/],
  ['Conda', /^[\w.-]+=[\w.!]+=\w+$/],
]
/** Longer lines are no package. */
const CHARACTERS_MAX = 1000

/** Finds the package manager that writes lines of this form. Undefined for those whose packages are read. */
export function findForeignManager(line: string): string | undefined {
  if (line.length > CHARACTERS_MAX) return undefined
  return FORMS.find(([, form]) => form.test(line))?.[0]
}
