import BidAPI
import Foundation
import Gateway
import Settings
import Testing

@Suite struct SettingsSchemaTests {
    @Test("docs/reference.md lists every setting with its default", arguments: ["gateway", "bid API"])
    func reference(program: String) throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let text = try String(contentsOf: root.appendingPathComponent("docs/reference.md"), encoding: .utf8)
        let section = try #require(text.split(separator: "## Settings of the \(program)\n").last)
        let rows = section.prefix(upTo: section.firstRange(of: "\n## ")?.lowerBound ?? section.endIndex)
            .split(separator: "\n").filter { $0.hasPrefix("| `") }.map(String.init)
        let schema = program == "gateway" ? GatewaySettings.schema : BidAPISettings.schema
        let expected = schema.settings.map { setting in
            let value = setting.defaultText.isEmpty ? "" : "`\(setting.defaultText)`"
            return "| `\(setting.name)` | \(value) | \(setting.help) |"
        }
        #expect(rows == expected)
    }
}
