export type { Actor } from '../db/auth/audit.ts'
export type { View, Visibility } from '../db/registry/repositories.ts'
