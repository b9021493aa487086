import Foundation
import Telemetry
import Testing

/// What the process says about itself.
@Suite(.serialized) struct ProcessMetricsTests {
    private func values() -> [String: Double] {
        var text = PrometheusText()
        text.addProcess(version: "1.2.3")
        let lines = text.text.split(separator: "\n").filter { !$0.hasPrefix("#") }
        return Dictionary(
            uniqueKeysWithValues: lines.map { line in
                let parts = line.split(separator: " ")
                return (String(parts[0]), Double(parts[1]) ?? .nan)
            })
    }

    @Test("descriptors, memory, processor time and start are those of this process")
    func process() throws {
        let before = values()
        #expect(before[#"gavelcast_build_info{version="1.2.3"}"#] == 1)
        let handles = try (0..<200).map { _ in try #require(FileHandle(forReadingAtPath: "/dev/null")) }
        let after = values()
        // Other tests of the run may open and close some meanwhile.
        let opened = try #require(after["process_open_fds"]) - (before["process_open_fds"] ?? 0)
        #expect(opened > 100 && handles.count == 200, "\(opened) descriptors more")
        #expect(after["process_max_fds"] ?? 0 >= after["process_open_fds"] ?? .infinity)
        let processor = try #require(after["process_cpu_seconds_total"])
        #expect(processor > 0 && processor >= before["process_cpu_seconds_total"] ?? .infinity)
        #expect(after["process_resident_memory_bytes"] ?? 0 > 1_000_000)
        let start = try #require(after["process_start_time_seconds"])
        let age = Date.now.timeIntervalSince1970 - start
        #expect(age > 0 && age < 86_400, "started \(age) s ago")
    }
}
