// lib/native.ts gives the addon its type.
export function loadAddon(): unknown
