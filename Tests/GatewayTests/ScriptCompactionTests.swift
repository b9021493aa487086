import Foundation
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
        #expect(compact(script) == "const a=1;function f(x,y){ // stays\nreturn x\n}")
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
                == "class A {#a=0;#c;add(){ this.#a+=1; return this.#b??this.#c; }#b=this.#a;}")
    }

    @Test("a text that is a fragment, or a sign alone, stays")
    func noNames() {
        #expect(compact("const mark = '#';\nconst hex = \"# \";") == "const mark='#';const hex=\"# \";")
    }

    @Test("no text of our own scripts changes")
    func texts() throws {
        let scripts = [
            PackageResources.gavelcast_js, PackageResources.app_js, PackageResources.list_js,
            PackageResources.room_js, PackageResources.wall_js, PackageResources.lots_js,
            PackageResources.api_js, PackageResources.dialogs_js, PackageResources.bidding_js,
            PackageResources.money_js, PackageResources.pictures_js, PackageResources.speech_js,
        ]
        for script in scripts {
            let code = String(decoding: script, as: UTF8.self).split(separator: "\n")
                .filter { !$0.trimmingPrefix(/\s*/).hasPrefix("//") && !$0.contains("/**") }
                .joined(separator: "\n")
            // Texts without a word in code, and the fixed parts of templates.
            for text in code.matches(of: /'([^'\n]*)'|`([^`$\n]*)(?:`|\$)/) {
                let part = String(text.1 ?? text.2 ?? "")
                guard part.contains(" "), !part.contains("#") else { continue }
                #expect(compact(code).contains(part), "\(part)")
            }
        }
    }
}
