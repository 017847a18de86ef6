import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { hasProgram } from '../support/has-program.ts'

/** True where kernels can be built and booted. */
export const CAN_BOOT =
  process.arch === 'x64' && ['as', 'ld', 'qemu-system-x86_64'].every((name) => hasProgram(name))

/** The start command of a unit: boots its kernel by software emulation, with the serial port as its output. */
export const BOOT = [
  'exec qemu-system-x86_64 -machine accel=tcg -m 32 -nodefaults -display none -serial stdio',
  '-device isa-debug-exit,iobase=0x501,iosize=2 -kernel "$KERNEL"',
].join(' ')

/**
 * A kernel for Solo5's target virtio, in the assembly of 32 bits in which multiboot starts it. It prints a line to the
 * serial port, and then halts, or ends QEMU with a status. Its notes are those of elf_abi.h and mft_abi.h of Solo5.
 */
const SOURCE = `
        .set    MAGIC, 0x1badb002
        .set    FLAGS, 0x10000                  # the addresses are in this header
        .section .text
        .code32
        .balign 4
header: .long   MAGIC, FLAGS, -(MAGIC + FLAGS)
        .long   header, header, 0, 0, start
        .globl  start
start:  movw    $0x3f8, %dx                     # the first serial port
        movl    $line, %esi
next:   lodsb
        testb   %al, %al
        jz      done
        outb    %al, %dx
        jmp     next
done:   movl    $VALUE, %eax
        cmpl    $0, %eax
        jl      halt
        movw    $0x501, %dx                     # isa-debug-exit: the status is 2 * value + 1
        outw    %ax, %dx
halt:   hlt
        jmp     halt
line:   .asciz  "LINE\\r\\n"
        .section .note.solo5.abi, "a", @note
        .balign 4
        .long   6, 16, 0x31494241               # ABI1
        .asciz  "Solo5"
        .balign 4
        .long   3, 1, 0, 0                      # virtio, version 1
        .section .note.solo5.manifest, "a", @note
        .balign 8
        .long   6, 116, 0x3154464d              # MFT1
        .asciz  "Solo5"
        .balign 4
        .long   0, 1, 1                         # padding, version, number of entries
        .zero   68
        .long   0x40000000                      # the reserved first entry
        .zero   32
`

const run = promisify(execFile)

/** Builds a kernel that prints a line, and halts, or with `value` ends QEMU with the status 2 * value + 1. */
export async function buildVirtioKernel(line: string, value = -1): Promise<Buffer> {
  const folder = await mkdtemp(join(tmpdir(), 'rookery-kernel-'))
  try {
    const [source, object, kernel] = ['k.s', 'k.o', 'k'].map((name) => join(folder, name))
    await writeFile(source ?? '', SOURCE.replace('LINE', line).replace('VALUE', String(value)))
    await run('as', ['--64', source ?? '', '-o', object ?? ''])
    const words = ['-static', '-nostdlib', '-e', 'start', '-Ttext=0x100000']
    await run('ld', ['-m', 'elf_x86_64', ...words, object ?? '', '-o', kernel ?? ''])
    return await readFile(kernel ?? '')
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
