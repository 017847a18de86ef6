import { expect, it } from 'vitest'
import { findVendoredPackage } from '../../../src/unikernel/opam/vendored.ts'

const found = (file: string, directory = 'folder') => {
  const url = file.includes('://') ? file : `https://example.org/releases/${file}`
  const { name, version } = findVendoredPackage({ url, directory, checksums: [] }) ?? {}
  return [name, version]
}

it('a vendored source is the package in the name of its archive or its folder', () => {
  expect(found('ipaddr-5.6.2.tbz')).toEqual(['ipaddr', '5.6.2'])
  expect(found('solo5-v0.12.1.tar.gz')).toEqual(['solo5', '0.12.1'])
  expect(found('0install-2.18.tar.bz2?x#y')).toEqual(['0install', '2.18'])
  expect(found('v0.12.1.tar.gz')).toEqual(['folder', '0.12.1'])
  expect(found('https://github.com/janestreet/base/v0.17.1.tar.gz', 'base')).toEqual([
    'base',
    'v0.17.1',
  ])
  expect(found('x-1.0~rc1+2.zip')).toEqual(['x', '1.0~rc1+2'])
  expect(found('a--1.tbz')).toEqual(['folder', undefined])
  expect(found('x-1.exe')).toEqual(['folder', undefined])
  expect(found('git+https://example.org/x.git#0f1e')).toEqual(['folder', undefined])
  expect(found('x.tbz', '../..')).toEqual([undefined, undefined])
})

it('a name takes linear time', () => {
  // A regular expression that backtracks at each dash takes minutes for this.
  const file = `a${'-1'.repeat(500_000)}!.tbz`
  expect(found(file)).toEqual(['folder', undefined])
})
