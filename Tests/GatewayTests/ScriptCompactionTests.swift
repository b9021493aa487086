import Testing

@testable import Gateway

@Suite struct ScriptCompactionTests {
    private func compact(_ script: String) -> String {
        String(decoding: ScriptCompaction.compact(Array(script.utf8)), as: UTF8.self)
    }

    @Test("whole-line comments, indentation and line ends that separate nothing go")
    func lines() {
        let script = """
            // What it is.
            const a = 1;

            /** Documented. */
              function f(x,
                  y) { // stays
                return x
              }
            """
        #expect(compact(script) == "const a = 1;function f(x,y) { // stays\nreturn x\n}")
    }

    @Test("private names become short, the same name everywhere the same, and the often used ones first")
    func names() {
        let script = """
            class A {
              #count = 0;
              #other;
              add() { this.#count += 1; return this.#count2 ?? this.#other; }
              #count2 = this.#count;
            }
            """
        #expect(
            compact(script)
                == "class A {#a = 0;#c;add() { this.#a += 1; return this.#b ?? this.#c; }#b = this.#a;}")
    }

    @Test("a text that is a fragment, or a sign alone, stays")
    func noNames() {
        #expect(compact("const mark = '#';\nconst hex = \"# \";") == "const mark = '#';const hex = \"# \";")
    }
}
