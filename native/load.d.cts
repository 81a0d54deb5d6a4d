// lib/native.ts gives it its type.
declare const addon: unknown
export = addon
