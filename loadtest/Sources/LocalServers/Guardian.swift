// What outlives a process that started servers, so that none of them stays behind.

import CLinux
import Foundation

/// A shell that outlives the tests by a moment: it is told of every child and folder, and when its input ends
/// it stops the ones that are left.
package final class Guardian: Sendable {
    package static let shared = Guardian()

    /// Logs and data of this run; removed at its end.
    package let folder: String
    private let input: Int32

    private init() {
        folder = "/tmp/gavelcast-\(UUID().uuidString)"
        try? FileManager.default.createDirectory(
            atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o777])
        var ends: [Int32] = [0, 0]
        precondition(pipe(&ends) == 0)
        // The children must not hold the writing end open.
        _ = fcntl(ends[1], F_SETFD, FD_CLOEXEC)
        input = ends[1]
        let script = """
            while read -r what pid; do
                case $what in
                    +) left="$left $pid" ;;
                    -) left=$(for one in $left; do [ "$one" = "$pid" ] || printf ' %s' "$one"; done) ;;
                esac
            done
            [ -z "$left" ] || kill -s INT $left 2>/dev/null
            for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
                [ -z "$left" ] && break; kill -0 $left 2>/dev/null || break; sleep 0.1
            done
            [ -z "$left" ] || kill -s KILL $left 2>/dev/null
            rm -rf "$1"
            """
        let path = "/proc/self/fd/\(ends[0])"
        do {
            _ = try ChildProcess.spawn(
                ["/bin/sh", "-c", script, "sh", folder], input: path, output: "/dev/null")
        } catch {
            preconditionFailure("no guardian: \(error)")
        }
        close(ends[0])
    }

    func tell(_ line: String) {
        let bytes = Array((line + "\n").utf8)
        _ = write(input, bytes, bytes.count)
    }
}
