// lib/native.ts gives the addon its type.
export function packageRoot(): string
export function loadAddon(): unknown
