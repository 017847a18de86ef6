import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  MalformedPackagesError,
  parseSystemPackages,
  SYSTEM_PACKAGES_BYTES_MAX,
  SYSTEM_PACKAGES_MAX,
} from '../../../src/unikernel/host/system-packages.ts'

const read = (text: string | Buffer) => parseSystemPackages(Buffer.from(text as string))
const list = (build: string) => {
  const path = new URL(`../../fixtures/builds/${build}/system-packages`, import.meta.url)
  return { text: readFileSync(path, 'utf8'), said: read(readFileSync(path)) }
}

describe('the lists of the fixtures', () => {
  it.each([
    ['hello-key-1', 'dpkg', 109, 'apt 2.6.1', 'zlib1g-dev 1:1.2.13.dfsg-1'],
    ['hello-key-2', 'dpkg', 110, 'apt 2.6.1', 'zlib1g-dev 1:1.2.13.dfsg-1'],
    ['hello-key-3-freebsd-same-output', 'pkg', 15, 'bash 5.2.37', 'zstd 1.5.7'],
    [
      'hello-key-4-same-input-different-output',
      'dpkg',
      110,
      'apt 2.6.1',
      'zlib1g-dev 1:1.2.13.dfsg-1',
    ],
    ['hello-key-5-failed', 'dpkg', 110, 'apt 2.6.1', 'zlib1g-dev 1:1.2.13.dfsg-1'],
  ])('%s is parsed in every line', (build, manager, count, first, last) => {
    const { text, said } = list(build)
    const lines = text.split('\n').filter((line) => line !== '')
    expect(said).toMatchObject({ manager, problems: [] })
    const ends = [said.packages.at(0), said.packages.at(-1)]
    expect(said.packages.length).toBe(count)
    expect(ends.map((one) => `${one?.name} ${one?.version}`)).toEqual([first, last])
    const sign = manager === 'dpkg' ? '=' : '-'
    expect(said.packages.map(({ name, version }) => `${name}${sign}${version}`).toSorted()).toEqual(
      lines.toSorted(),
    )
  })

  it('differ as documented', () => {
    const [first, second] = [list('hello-key-1').said, list('hello-key-2').said].map(
      ({ packages }) => new Map(packages.map(({ name, version }) => [name, version])),
    )
    const changed = [...(second ?? [])].filter(([name, is]) => {
      const was = first?.get(name)
      return was !== undefined && was !== is
    })
    expect(changed.map(([name]) => name).sort()).toEqual(['bash', 'binutils'])
    const added = [...(second ?? [])].filter(([name]) => !first?.has(name))
    expect(added.map(([name]) => name)).toEqual(['libseccomp-dev'])
  })
})

describe('the package manager', () => {
  it.each([
    [
      'dpkg',
      'bash=5.2.15-2+b7\nlibc6:amd64=2.36-9+deb12u10\ng++-12=12.2.0-14\nx=1:2~rc1\n',
      [
        ['bash', '5.2.15-2+b7', undefined],
        ['g++-12', '12.2.0-14', undefined],
        ['libc6', '2.36-9+deb12u10', 'amd64'],
        ['x', '1:2~rc1', undefined],
      ],
    ],
    [
      'apk',
      'musl-1.2.5-r9\nca-certificates-20240705-r0\nlibstdc++-14.2.0-r4\nso-name-2-1.0_git2-r3',
      [
        ['ca-certificates', '20240705-r0', undefined],
        ['libstdc++', '14.2.0-r4', undefined],
        ['musl', '1.2.5-r9', undefined],
        ['so-name-2', '1.0_git2-r3', undefined],
      ],
    ],
    ['apk', 'musl-1.2.5-r9 x86_64 {musl} (MIT) [installed]\n', [['musl', '1.2.5-r9', 'x86_64']]],
    [
      'pkg',
      'ca_root_nss-3.108\npy311-setuptools-63.1.0_3\nperl5-5.40.2_1,1\nnode-r2',
      [
        ['ca_root_nss', '3.108', undefined],
        ['node', 'r2', undefined],
        ['perl5', '5.40.2_1,1', undefined],
        ['py311-setuptools', '63.1.0_3', undefined],
      ],
    ],
  ])('%s: %j', (manager, text, wanted) => {
    const { packages, ...rest } = read(text)
    expect(rest).toEqual({ manager, problems: [] })
    expect(packages.map((one) => [one.name, one.version, one.architecture])).toEqual(wanted)
  })

  it('is decided by the majority of lines, and the others are problems', () => {
    expect(read('a=1\n\nb-2\nc=3\nd\n')).toEqual({
      manager: 'dpkg',
      packages: [
        { name: 'a', version: '1' },
        { name: 'c', version: '3' },
      ],
      problems: [
        { line: 3, problem: '"b-2" is not name=version of a Debian package' },
        { line: 5, problem: '"d" is not name=version of a Debian package' },
      ],
    })
  })

  it('is Alpine’s with a line that is valid for FreeBSD', () => {
    // A package of `apk add --virtual` has no -rN.
    for (const odd of ['build-deps-20240705.123456', '.build-deps-0', 'mydeps-0', 'node-r2']) {
      const { manager, packages, problems } = read(`${odd}\nmusl-1.2.5-r9\nbusybox-1.36.1-r2\n`)
      expect([manager, ...packages.map(({ name }) => name)]).toEqual(['apk', 'busybox', 'musl'])
      expect(problems).toEqual([
        { line: 1, problem: `"${odd}" is not name-version-rN of an Alpine package` },
      ])
    }
  })

  it('is FreeBSD’s with a line that is valid for Alpine', () => {
    const { manager, packages } = read('bash-5.2.37\ntool-2-r1\nzstd-1.5.7')
    expect(manager).toBe('pkg')
    expect(packages.map(({ name, version }) => `${name} ${version}`)).toEqual([
      'bash 5.2.37',
      'tool-2 r1',
      'zstd 1.5.7',
    ])
  })

  it('is undefined for an empty list', () => {
    for (const text of ['', '\n\n', ' \r\n']) {
      expect(read(text)).toEqual({ manager: undefined, packages: [], problems: [] })
    }
    expect(read('???').problems).toEqual([
      { line: 1, problem: '"???" is not a package of Debian, Alpine or FreeBSD' },
    ])
  })
})

describe('a list of another package manager', () => {
  it.each([
    ['RPM', 'bash-5.2.26-1.fc39.x86_64\nglibc-2.38-16.fc39.x86_64\ntzdata-2024a-2.fc39.noarch'],
    ['RPM', 'bash-5.1.8-9.el9\nglibc-2.34-100.el9_4.2\ngpg-pubkey-fd431d51-4ae0493b'],
    ['RPM', 'bash=5.1.8-9.el9\nglibc=2.34-100.el9'],
    ['RPM', 'bash.x86_64   5.2.26-1.fc39   @anaconda\nglibc.x86_64 2.38-16.fc39 @updates'],
    ['RPM', 'bash-5.2.15-150600.1.3.x86_64\nopenssl-3-3.1.4-150600.5.7.1.x86_64'],
    ['pacman', 'bash 5.2.026-2\nglibc 2.39+r52+gf8e4623421-1\ngcc-libs 14.1.1-1'],
    ['pacman', 'bash-5.2.026-2-x86_64\nca-certificates-20240618-1-any'],
    [
      'Nix',
      '/nix/store/0c7c96gikmzv87i7lv3vq5s1cmfjd6zf-bash-5.2p26\n/nix/store/'.concat(
        '1q8w6gl1ll0mwfkqc3c2yx005s6wwfrl-glibc-2.39-52',
      ),
    ],
    ['Nix', '0c7c96gikmzv87i7lv3vq5s1cmfjd6zf-bash-5.2'],
    ['Slackware', 'bash-5.2.026-x86_64-1\nglibc-2.39-x86_64-2_slack15.0'],
    ['Gentoo', 'app-shells/bash-5.2_p26\nsys-libs/glibc-2.39-r6'],
    ['dpkg -l', 'ii  bash  5.2.15-2+b7  amd64  GNU Bourne Again SHell'],
    ['Homebrew', 'bash 5.2.26\nopenssl@3 3.3.0'],
    ['pip', 'requests==2.31.0\nurllib3==2.2.1'],
  ])('is not read as that of a known one: %s, %j', (manager, text) => {
    expect(() => read(text)).toThrow(MalformedPackagesError)
    expect(() => read(text)).toThrow(`the list is of ${manager}; lists of Debian`)
  })

  it('is only that of most lines', () => {
    const { manager, packages } = read('bash=5.2-1\nzsh=5.9-4\nodd-1-1.fc39.x86_64')
    expect([manager, packages.length]).toEqual(['dpkg', 2])
  })
})

it('lines may have any line ending, and duplicates count once', () => {
  const wanted = read('a=1\nb=2\n')
  for (const text of ['a=1\r\nb=2\r\n', '\ufeffb=2\na=1', 'a=1\na=1\nb=2']) {
    expect(read(text)).toEqual(wanted)
  }
  // Two architectures may have two versions.
  expect(read('a=1\na=2\na:i386=2').packages.length).toBe(3)
})

describe('hostile lists', () => {
  it.each([
    ['NULs', 'a\0=1\nb=1\0\nc=1'],
    ['no UTF-8', Buffer.from('a\xff=1\nb=\xfe\xfe\nc=1', 'latin1')],
    ['long words', `${'a'.repeat(300)}=1\nb=${'1'.repeat(300)}\nc=1`],
    ['nothing but signs', '=\n=1\nc=1\na='],
    ['spaces', 'a = 1\n b=1\nc=1'],
    ['several architectures', 'a:i386:amd64=1\nb:=1\nc=1'],
  ])('%s are problems, and the rest is parsed', (_what, text) => {
    const { packages, problems } = read(text as string)
    expect(packages).toEqual([{ name: 'c', version: '1' }])
    expect(problems.length).toBeGreaterThan(0)
  })

  it('have at most a hundred problems, and the number of the others', () => {
    const { problems } = read(`a=1\nb=2\n${'???\n'.repeat(1000)}`.replace('???', 'c=3'))
    expect(problems.length).toBe(101)
    expect(problems.at(-1)?.problem).toBe('there are 899 more problems')
  })

  it('of 20 000 lines are parsed in linear time', () => {
    const lines = (count: number) =>
      Buffer.from(Array.from({ length: count }, (_, n) => `package-${n}=1.${n}-1`).join('\n'))
    const secondsOf = (bytes: Buffer) => {
      const start = process.cpuUsage()
      parseSystemPackages(bytes)
      return process.cpuUsage(start).user / 1e6
    }
    expect(parseSystemPackages(lines(SYSTEM_PACKAGES_MAX)).packages.length).toBe(
      SYSTEM_PACKAGES_MAX,
    )
    expect(secondsOf(lines(SYSTEM_PACKAGES_MAX))).toBeLessThan(3)
    for (const line of ['a-'.repeat(120), `${'1-'.repeat(120)}r`, 'a'.repeat(250)]) {
      expect(secondsOf(Buffer.from(`${line}\n`.repeat(8_000)))).toBeLessThan(5)
    }
  })

  it('that are too large are refused in one line', () => {
    expect(() => parseSystemPackages(Buffer.alloc(SYSTEM_PACKAGES_BYTES_MAX + 1))).toThrow(
      /has 2097153 bytes; the limit is 2097152/,
    )
    const many = Buffer.from('a=1\n'.repeat(SYSTEM_PACKAGES_MAX + 1))
    expect(() => parseSystemPackages(many)).toThrow(MalformedPackagesError)
  })
})

const name = fc.stringMatching(/^[a-z][a-z0-9+-]{0,20}$/)
const version = fc.stringMatching(/^[0-9][0-9a-z.+~]{0,20}$/)
const wordVersion = fc.stringMatching(/^[0-9][0-9a-z._]{0,20}$/)

it.each([
  ['dpkg', '=', ''],
  ['apk', '-', '-r0'],
  ['pkg', '-', ''],
])('a list written for %s is parsed to the same packages', (manager, sign, end) => {
  const one = fc.tuple(name, manager === 'dpkg' ? version : wordVersion)
  fc.assert(
    fc.property(fc.uniqueArray(one, { minLength: 1, selector: String }), (written) => {
      const packages = written.map(([named, of]) => [named, `${of}${end}`] as const)
      const { problems, ...said } = read(packages.map((each) => each.join(sign)).join('\n'))
      const found = said.packages
      expect(said.manager).toBe(manager)
      expect(problems).toEqual([])
      expect(found.map((each) => `${each.name} ${each.version}`).sort()).toEqual(
        packages.map(([one, of]) => `${one} ${of}`).sort(),
      )
    }),
  )
})

it('any bytes are parsed without an error', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      const { packages, problems } = parseSystemPackages(bytes)
      expect(packages.length + problems.length).toBeLessThanOrEqual(bytes.length)
    }),
  )
})
