export type { Actor } from '../db/audit.ts'
export type { View, Visibility } from '../db/repositories.ts'
